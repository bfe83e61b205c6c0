//! Where the batches of a run come from: the loader's threads, or a set that lies on the device as bytes. Either way they are the
//! same ones, bit for bit.

use flatmin_data::{BatchIter, Crop, Loader, Transform};
use flatmin_nn::Engine;
use flatmin_optim::Target;
use flatmin_torch_ext::channels_last;
use flatmin_torch_ext::cuda::{Augmentation, Feed, Images, Place};
use tch::{Device, Kind, Tensor};

use crate::batch::tensors;
use crate::error::Result;

/// Bytes of a set that is kept on the device.
const LARGEST: usize = 1 << 30;

/// A batch on the device of the model.
pub struct Input {
    pub images: Tensor,
    pub target: Target,
    pub count: u64,
}

/// The batches still to come, over all epochs.
pub enum Source {
    Loader(BatchIter),
    Device(Box<Resident>),
}

impl Source {
    /// The batch of this number of an epoch, if there is one; batches are asked for in order.
    pub fn next(
        &mut self,
        loader: &Loader,
        (epoch, number): (u64, u64),
        options: (Kind, Device),
    ) -> Result<Option<Input>> {
        match self {
            Self::Loader(batches) => {
                let Some(batch) = batches.next().transpose()? else { return Ok(None) };
                let (images, target) = tensors(&batch, loader.dataset().shape(), options)?;
                let count = batch.count as u64;
                loader.recycle(batch);
                Ok(Some(Input { images, target, count }))
            }
            Self::Device(resident) => resident.batch(loader, (epoch, number)).map(Some),
        }
    }
}

/// A set of small images on the device, with the augmentation that the kernel there knows.
pub struct Resident {
    place: Place,
    images: Images,
    feed: Feed,
    augmentation: Augmentation,
    kind: Kind,
    /// Epoch and number of the batch that the feed shows next.
    next: Option<(u64, u64)>,
}

impl Resident {
    /// None where the device has no such kernel, or where the set or what is done to its images is something else.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(engine: Engine, loader: &Loader, transform: &Transform, kind: Kind, seed: u64) -> Result<Option<Self>> {
        let (Engine::Cuda(place), Some(augmentation)) = (engine, known(transform)) else { return Ok(None) };
        let (set, shape) = (loader.dataset(), loader.dataset().shape());
        if shape.channels > 4 || set.len() * shape.elements() > LARGEST {
            return Ok(None);
        }
        let Some(bytes) = set.bytes() else { return Ok(None) };
        let sizes = [set.len(), shape.height, shape.width, shape.channels].map(|size| size as i64);
        let labels: Vec<i64> = set.labels().iter().map(|&label| i64::from(label)).collect();
        let (gain, bias) = transform.normalization.gain_and_bias(255.0);
        let pixels = Tensor::f_from_slice(&bytes)?.f_view(sizes)?;
        let images = Images::new(&place, &pixels, &Tensor::f_from_slice(&labels)?, &gain, &bias)?;
        let feed = Feed::new(&place, set.len(), seed)?;
        Ok(Some(Self { place, images, feed, augmentation, kind, next: None }))
    }

    fn batch(&mut self, loader: &Loader, (epoch, number): (u64, u64)) -> Result<Input> {
        let first = number as usize * loader.batch_size();
        if self.next != Some((epoch, number)) {
            let order: Vec<i32> = loader.order(epoch).into_iter().map(|position| position as i32).collect();
            self.feed.begin(epoch, first, &Tensor::f_from_slice(&order)?)?;
        }
        let count = loader.batch_size().min(self.images.len() - first) as i64;
        let [height, width, channels] = self.images.shape().map(|size| size as i64);
        let device = self.place.device();
        let images = channels_last(&Tensor::f_empty([count, channels, height, width], (self.kind, device))?)?;
        let labels = Tensor::f_empty([count], (Kind::Int64, device))?;
        self.images.next_batch(&self.place, &mut self.feed, self.augmentation, &images, &labels)?;
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
