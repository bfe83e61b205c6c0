//! Where the batches of a run come from: the loader's threads, or a set that lies on the device as bytes. Either way they are the
//! same ones, bit for bit. What the loader made is copied to a GPU while the step before computes.

use flatmin_data::{Crop, ImageShape, Loader, Transform};
use flatmin_nn::{Engine, cuda_library};
use flatmin_optim::Target;
use flatmin_torch_ext::cuda::{self, Augmentation, Images, Place, Upload, Uploader};
use tch::{Kind, Tensor};

use crate::batch::{as_images, class_tensor, upload};
use crate::error::Result;
use crate::feed::Feed;

/// Bytes of a set that is kept on the device.
const LARGEST: usize = 1 << 30;

/// A batch on the device of the model.
pub struct Input {
    pub images: Tensor,
    pub target: Target,
    pub count: u64,
}

/// The batches still to come, over all epochs.
pub struct Source {
    feed: Feed,
    /// Reads the images in place of the feed's threads.
    resident: Option<Resident>,
    uploader: Uploader,
    /// Whether the batch after the one that is handed out is already asked for.
    looks_ahead: bool,
    /// That batch. An error waits until its turn has come.
    ahead: Option<Result<Sent>>,
}

/// A batch on its way to the device, but for its labels.
struct Sent {
    images: Upload,
    labels: Tensor,
    at: (u64, u64),
}

impl Source {
    /// The batches of a feed; its set is kept on the device where the engine can make them there.
    ///
    /// # Errors
    /// If there is no memory, or the device has no stream for copies.
    pub fn new(feed: Feed, engine: Engine) -> Result<Self> {
        let resident = Resident::new(engine, feed.loader(0))?;
        let uploader = Uploader::new(engine.device(), cuda_library())?;
        Ok(Self { feed, resident, uploader, looks_ahead: matches!(engine, Engine::Cuda(_)), ahead: None })
    }

    /// Batches an epoch, at least 1.
    #[allow(clippy::len_without_is_empty)] // a source without batches cannot be made
    pub fn len(&self) -> usize {
        self.feed.len()
    }

    /// What reads the images of this epoch.
    pub fn loader(&self, epoch: u64) -> &Loader {
        self.feed.loader(epoch)
    }

    /// Shape of the images in this epoch.
    pub fn shape(&self, epoch: u64) -> ImageShape {
        self.feed.shape(epoch)
    }

    /// The batch of this number of an epoch, mixed, if there is one; batches are asked for in order.
    pub fn next(&mut self, (epoch, number): (u64, u64)) -> Result<Option<Input>> {
        if let Some(resident) = &mut self.resident {
            let Input { images, target, count } = resident.batch(self.feed.loader(epoch), (epoch, number))?;
            let (images, target) = self.feed.mix(images, target, (epoch, number))?;
            return Ok(Some(Input { images, target, count }));
        }
        let next = self.ahead.take().or_else(|| self.send());
        if self.looks_ahead && matches!(next, Some(Ok(_))) {
            self.ahead = self.send();
        }
        let Some(Sent { images, labels, at }) = next.transpose()? else { return Ok(None) };
        let count = labels.numel() as u64;
        let images = as_images(self.uploader.end(images)?, self.feed.shape(at.0))?;
        let (images, target) = self.feed.mix(images, Target::Classes(labels), at)?;
        Ok(Some(Input { images, target, count }))
    }

    fn send(&mut self) -> Option<Result<Sent>> {
        let loaded = self.feed.next()?;
        Some(loaded.and_then(|loaded| {
            let (images, labels) = (upload(&self.uploader, &loaded.batch.images)?, class_tensor(&loaded.batch)?);
            let at = (loaded.epoch, loaded.number as u64);
            self.feed.recycle(loaded);
            Ok(Sent { images, labels, at })
        }))
    }
}

/// A set of small images on the device, with the augmentation that the kernel there knows.
struct Resident {
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
    fn new(engine: Engine, loader: &Loader) -> Result<Option<Self>> {
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

    fn batch(&mut self, loader: &Loader, (epoch, number): (u64, u64)) -> Result<Input> {
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use flatmin_data::{ArrayOptions, Dataset, EncodedImages, EncodedOptions, Frame, Pixels, digits};
    use image::{ImageFormat, Rgb, RgbImage};
    use serde_json::json;

    use super::*;
    use crate::feed::FeedConfig;

    /// 37 images of three channels.
    fn colours() -> Dataset {
        let shape = ImageShape { height: 9, width: 8, channels: 3 };
        let pixels = (0..37 * shape.elements()).map(|index| (index * 37 % 251) as u8).collect();
        let labels = (0..37).map(|index| index % 5).collect();
        Dataset::from_arrays(Pixels::U8(pixels), shape, labels, ArrayOptions::default()).unwrap()
    }

    /// Three epochs from batch `start` of the first.
    fn source(set: &Dataset, config: &FeedConfig, start: usize, engine: Engine) -> Source {
        Source::new(Feed::new(vec![(0, set.clone())], config, 0..3, start).unwrap(), engine).unwrap()
    }

    #[test]
    fn the_device_shows_the_loaders_images() {
        // White is 255 in the one and 16 in the other.
        for set in [colours(), digits().unwrap().take(37).unwrap()] {
            for augment in [
                json!({"padCrop": 4, "flip": true, "mixup": 0.4}),
                json!({"flip": true, "cutout": 3}),
                json!({"padCrop": 2, "cutout": 4}),
            ] {
                let config = json!({"batchSize": 10, "shuffle": true, "seed": 11, "augment": augment});
                let config = serde_json::from_value(config).unwrap();
                let mut loaded = source(&set, &config, 2, Engine::Cpu);
                let mut resident = source(&set, &config, 2, Engine::Cuda(Place::twin()));
                assert!(loaded.resident.is_none() && resident.resident.is_some());
                for at in (0..3).flat_map(|epoch| (0..4).map(move |number| (epoch, number))).skip(2) {
                    let [own, other] = [&mut loaded, &mut resident].map(|source| source.next(at).unwrap().unwrap());
                    assert_eq!((own.images.stride(), own.count), (other.images.stride(), other.count));
                    assert_eq!(own.images, other.images, "images of {} at {at:?}", set.name());
                    assert_eq!(own.target.tensor(), other.target.tensor());
                }
            }
        }
    }

    /// PNG files in memory, of which one is no image.
    #[derive(Debug)]
    struct Pictures {
        broken: usize,
    }

    impl EncodedImages for Pictures {
        fn len(&self) -> usize {
            7
        }

        fn name(&self, index: usize) -> String {
            format!("picture {index}")
        }

        fn read(&self, index: usize, bytes: &mut Vec<u8>) -> flatmin_data::Result<()> {
            let mut file = Cursor::new(Vec::new());
            let picture = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8, y as u8, index as u8]));
            picture.write_to(&mut file, ImageFormat::Png).unwrap();
            *bytes = if index == self.broken { b"no image".to_vec() } else { file.into_inner() };
            Ok(())
        }
    }

    fn pictures(engine: Engine, broken: usize) -> Source {
        let options = EncodedOptions { frame: Frame::square(8), ..EncodedOptions::default() };
        let set = Dataset::from_encoded(Pictures { broken }, vec![0, 1, 2, 3, 4, 5, 6], options).unwrap();
        let config = serde_json::from_value(json!({ "batchSize": 2, "augment": { "mixup": 0.5 } })).unwrap();
        Source::new(Feed::new(vec![(0, set)], &config, 0..2, 0).unwrap(), engine).unwrap()
    }

    /// What the batches of two epochs are: pixels, targets and sizes.
    fn batches(mut source: Source) -> Vec<Option<(Tensor, Tensor, u64)>> {
        let places = (0..2).flat_map(|epoch| (0..4).map(move |number| (epoch, number)));
        let batch = |at| match source.next(at) {
            Ok(input) => input.map(|Input { images, target, count }| (images, target.tensor().copy(), count)),
            Err(error) => panic!("{error}"),
        };
        places.map(batch).collect()
    }

    #[test]
    fn what_is_sent_ahead_is_what_would_have_been_loaded() {
        let twin = Engine::Cuda(Place::twin());
        let (own, ahead) = (batches(pictures(Engine::Cpu, 7)), batches(pictures(twin, 7)));
        assert!(own.iter().all(Option::is_some));
        assert_eq!(own, ahead);
        let mut source = pictures(twin, 7);
        for number in 0..8 {
            assert!(source.next((number / 4, number % 4)).unwrap().is_some());
        }
        assert!(source.next((2, 0)).unwrap().is_none());
    }

    #[test]
    fn an_error_ahead_waits_for_its_turn() {
        for engine in [Engine::Cpu, Engine::Cuda(Place::twin())] {
            let mut source = pictures(engine, 5);
            assert!(source.next((0, 0)).unwrap().is_some());
            assert!(source.next((0, 1)).unwrap().is_some());
            assert!(source.next((0, 2)).err().unwrap().to_string().contains("picture 5"));
            assert!(source.next((0, 3)).unwrap().is_none());
        }
    }
}
