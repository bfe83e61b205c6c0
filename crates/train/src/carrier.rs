//! The way of a loader's batches to the device of a model. To a GPU images go as bytes where they are such until their normalisation,
//! a quarter of the traffic, and are normalised there: the same numbers, bit for bit.

use flatmin_data::{Format, ImageShape, Images, Loader};
use flatmin_nn::{Engine, cuda_library};
use flatmin_optim::Target;
use flatmin_torch_ext::cuda::{Upload, Uploader};
use tch::{Device, Kind, Tensor};

use crate::batch::{as_images, upload};
use crate::error::Result;

pub struct Carrier {
    uploader: Uploader,
    /// Of bytes.
    normalizer: Option<Normalizer>,
}

/// A byte v of channel c becomes `v * gain[c] + bias[c]`.
struct Normalizer {
    /// `[1, channels, 1, 1]`, float32.
    gain: Tensor,
    bias: Tensor,
}

/// The loader that reads for an engine: elsewhere than on the CPU, bytes if nothing but the normalisation is then left to do.
pub fn loader_for(engine: Engine, loader: Loader) -> Result<Loader> {
    Ok(match engine {
        Engine::Cpu => loader,
        Engine::Torch(_) | Engine::Cuda(_) => loader.as_bytes()?.unwrap_or(loader),
    })
}

impl Carrier {
    /// For images of a loader that [`loader_for`] chose.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(engine: Engine, loader: &Loader) -> Result<Self> {
        let device = engine.device();
        let (gain, bias) = loader.transform().normalization.gain_and_bias(255.0);
        let normalizer = (loader.format() == Format::U8).then(|| Normalizer::new(&gain, &bias, device)).transpose()?;
        Ok(Self { uploader: Uploader::new(device, cuda_library()), normalizer })
    }

    /// Begins to bring the pixels of a batch; the buffer is free again at once.
    pub fn begin(&self, images: &Images) -> Result<Upload> {
        upload(&self.uploader, images)
    }

    /// Normalised images `[batch, channels, height, width]`, channels lying last, for what is queued from now on.
    pub fn end(&self, upload: Upload, shape: ImageShape) -> Result<Tensor> {
        let images = as_images(self.uploader.end(upload)?, shape)?;
        match &self.normalizer {
            Some(normalizer) => normalizer.apply(&images),
            None => Ok(images),
        }
    }

    /// Begins to bring class numbers; they may change at once.
    pub fn begin_labels(&self, labels: &[i64]) -> Result<Upload> {
        Ok(self.uploader.begin(labels)?)
    }

    /// Class numbers `[batch]`, for what is queued from now on.
    pub fn end_labels(&self, upload: Upload) -> Result<Target> {
        Ok(Target::Classes(self.uploader.end(upload)?))
    }

    /// Both at once, of images.
    pub fn bring(&self, images: &Images, shape: ImageShape) -> Result<Tensor> {
        self.end(self.begin(images)?, shape)
    }
}

impl Normalizer {
    fn new(gain: &[f32], bias: &[f32], device: Device) -> Result<Self> {
        let of_channels = |values: &[f32]| Tensor::f_from_slice(values)?.f_view([1, -1, 1, 1])?.f_to_device(device);
        Ok(Self { gain: of_channels(gain)?, bias: of_channels(bias)? })
    }

    fn apply(&self, bytes: &Tensor) -> Result<Tensor> {
        Ok(bytes.f_to_kind(Kind::Float)?.f_mul_(&self.gain)?.f_add_(&self.bias)?)
    }
}
