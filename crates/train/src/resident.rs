//! Sets of small images that lie on the device as bytes, with the augmentation that the kernel there knows: its batches are the
//! loader's, bit for bit.

use flatmin_data::{Crop, Loader, Transform};
use flatmin_nn::Engine;
use flatmin_optim::Target;
use flatmin_torch_ext::cuda::{self, Augmentation, Images, Place};
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::input::Input;

/// Bytes of a set that is kept on the device.
const LARGEST: usize = 1 << 30;

/// A set on the device.
pub struct Resident {
    place: Place,
    images: Images,
    feed: cuda::Feed,
    augmentation: Augmentation,
    /// Epoch and number of the batch that the feed shows next.
    next: Option<(u64, u64)>,
}

impl Resident {
    /// None where the device has no such kernel, or where the set or what is done to its images is something else.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(engine: Engine, loader: &Loader) -> Result<Option<Self>> {
        let transform = loader.transform();
        let (Engine::Cuda(place), Some(augmentation)) = (engine, known(transform)) else { return Ok(None) };
        let (set, shape) = (loader.dataset(), loader.dataset().shape());
        if shape.channels > 4 || set.len() * shape.elements() > LARGEST {
            return Ok(None);
        }
        let Some((bytes, white)) = set.bytes() else { return Ok(None) };
        let sizes = [set.len(), shape.height, shape.width, shape.channels].map(|size| size as i64);
        let labels: Vec<i64> = set.labels().iter().map(|&label| i64::from(label)).collect();
        let (gain, bias) = transform.normalization.gain_and_bias(white);
        let pixels = Tensor::f_from_slice(&bytes)?.f_view(sizes)?;
        let images = Images::new(&place, &pixels, &Tensor::f_from_slice(&labels)?, &gain, &bias)?;
        let feed = cuda::Feed::new(&place, set.len(), loader.seed())?;
        Ok(Some(Self { place, images, feed, augmentation, next: None }))
    }

    /// A batch of the loader's, in float32. Those that follow one another cost the least.
    pub fn batch(&mut self, loader: &Loader, (epoch, number): (u64, u64)) -> Result<Input> {
        let first = number as usize * loader.batch_size();
        if self.next != Some((epoch, number)) {
            let order: Vec<i32> = loader.order(epoch).into_iter().map(|position| position as i32).collect();
            self.feed.begin(epoch, first, &Tensor::f_from_slice(&order)?)?;
        }
        let count = loader.batch_size().min(self.images.len() - first) as i64;
        let [height, width, channels] = self.images.shape().map(|size| size as i64);
        let device = self.place.device();
        let images = Tensor::f_empty([count, height, width, channels], (Kind::Float, device))?;
        let labels = Tensor::f_empty([count], (Kind::Int64, device))?;
        self.images.next_batch(&self.place, &mut self.feed, self.augmentation, &images, &labels)?;
        let images = images.f_permute([0, 3, 1, 2])?;
        self.next = (number + 1 < loader.len() as u64).then_some((epoch, number + 1));
        Ok(Input { images, target: Target::Classes(labels), count: count as u64 })
    }
}

/// The transform as the kernel takes it, if it is no more than that.
fn known(transform: &Transform) -> Option<Augmentation> {
    let Transform { crop, flip, color_jitter, policy, erasing, cutout, .. } = transform;
    let padding = match crop {
        Crop::Centre => 0,
        Crop::Pad(padding) => *padding,
        Crop::Resized(_) => return None,
    };
    let plain = color_jitter.is_none() && policy.is_none() && erasing.is_none();
    plain.then_some(Augmentation { padding, flip: *flip, cutout: cutout.unwrap_or(0) })
}
