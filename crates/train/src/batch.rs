//! From the loader's buffers to tensors: channels-last images without a second copy, labels as they are.

use flatmin_data::{Batch, ImageShape};
use flatmin_nn::Model;
use flatmin_optim::Target;
use flatmin_torch_ext::channels_last;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// `[batch, channels, height, width]` of the dtype and on the device that a model takes ([`Model::input_options`]), channels
/// lying last in memory as the buffer has them.
pub fn image_tensor(images: &[f32], shape: ImageShape, (kind, device): (Kind, Device)) -> Result<Tensor> {
    let [height, width, channels] = [shape.height, shape.width, shape.channels].map(|size| size as i64);
    let nhwc = Tensor::f_from_slice(images)?.f_to_device(device)?.f_view([-1, height, width, channels])?;
    Ok(nhwc.f_permute([0, 3, 1, 2])?.f_to_kind(kind)?)
}

/// A batch as the step takes it: images and class numbers `[batch]`, which are checked before they leave the CPU.
pub fn tensors(batch: &Batch, shape: ImageShape, input: (Kind, Device)) -> Result<(Tensor, Target)> {
    let images = image_tensor(&batch.images, shape, input)?;
    Ok((images, Target::Classes(Tensor::f_from_slice(&batch.labels)?)))
}

/// A caller's images as a model reads them: its dtype and device, channels lying last. No copy if they are so already.
///
/// # Errors
/// `ERR_FLATMIN_SHAPE` unless `images` is `[batch, channels, height, width]` as the model expects,
/// `ERR_FLATMIN_DTYPE` unless it is float32 or float64.
pub fn model_images(images: &Tensor, model: &Model) -> Result<Tensor> {
    let shape = model.spec().input_shape;
    let [channels, height, width] = shape;
    let size = images.size();
    if size.len() != 4 || size[1..] != shape {
        return Err(Error::shape("images", &size, format!("[batch, {channels}, {height}, {width}]")));
    }
    if !matches!(images.kind(), Kind::Float | Kind::Double) {
        let expected = "float32 or float64, normalised".to_owned();
        return Err(Error::Dtype { what: "images".into(), found: format!("{:?}", images.kind()), expected });
    }
    let (kind, device) = model.input_options();
    Ok(channels_last(&images.f_to_device(device)?.f_to_kind(kind)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_lie_last_and_values_are_in_their_place() {
        let shape = ImageShape { height: 2, width: 3, channels: 2 };
        let pixels: Vec<f32> = (0..24).map(|value| value as f32).collect();
        let images = image_tensor(&pixels, shape, (Kind::Float, Device::Cpu)).unwrap();
        assert_eq!(images.size(), [2, 2, 2, 3]);
        assert_eq!(images.stride(), [12, 1, 6, 2]);
        // Image 1, channel 0, row 1, column 2 lies at ((1 * 2 + 1) * 3 + 2) * 2 of the buffer.
        assert_eq!(images.double_value(&[1, 0, 1, 2]), 22.0);
        assert_eq!(image_tensor(&pixels, shape, (Kind::Double, Device::Cpu)).unwrap().kind(), Kind::Double);
    }
}
