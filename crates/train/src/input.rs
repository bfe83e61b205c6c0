//! Where the batches of a run come from: the loader's threads, or a set that lies on the device as bytes. Either way they are the
//! same ones, bit for bit. What the loader made is copied to a GPU while the step before computes.

use flatmin_data::ImageShape;
use flatmin_nn::Engine;
use flatmin_optim::Target;
use flatmin_torch_ext::cuda::Upload;
use tch::Tensor;

use crate::batch::class_tensor;
use crate::carrier::Carrier;
use crate::error::Result;
use crate::feed::Feed;
use crate::resident::Resident;

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
    carrier: Carrier,
    /// Whether a batch can be on its way while the one before is used.
    looks_ahead: bool,
    /// Such a batch. An error waits until its turn has come.
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
    /// If there is no memory.
    pub fn new(mut feed: Feed, engine: Engine) -> Result<Self> {
        let resident = Resident::new(engine, feed.loader(0))?;
        feed.prepare_for(engine)?;
        let carrier = Carrier::new(engine, feed.loader(0))?;
        Ok(Self { feed, resident, carrier, looks_ahead: matches!(engine, Engine::Cuda(_)), ahead: None })
    }

    /// Batches an epoch, at least 1.
    #[allow(clippy::len_without_is_empty)] // a source without batches cannot be made
    pub fn len(&self) -> usize {
        self.feed.len()
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
        let Some(Sent { images, labels, at }) = next.transpose()? else { return Ok(None) };
        let count = labels.numel() as u64;
        let images = self.carrier.end(images, self.feed.shape(at.0))?;
        let (images, target) = self.feed.mix(images, Target::Classes(labels), at)?;
        Ok(Some(Input { images, target, count }))
    }

    /// Waits for the next batch and begins to bring it to a GPU: while that computes.
    pub fn look_ahead(&mut self) {
        if self.looks_ahead && self.resident.is_none() && self.ahead.is_none() {
            self.ahead = self.send();
        }
    }

    /// Hands `body` the images of an epoch as they are drawn for training but not mixed, with the number of their batch, until it
    /// says no; whether it never did.
    pub fn show(&mut self, epoch: u64, mut body: impl FnMut(u64, Tensor) -> Result<bool>) -> Result<bool> {
        let Self { feed, resident, carrier, .. } = self;
        let loader = feed.loader(epoch);
        if let Some(resident) = resident {
            for number in 0..loader.len() as u64 {
                if !body(number, resident.batch(loader, (epoch, number))?.images)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        for (number, batch) in loader.epoch(epoch, 0).enumerate() {
            let batch = batch?;
            let images = carrier.bring(&batch.images, loader.dataset().shape())?;
            loader.recycle(batch);
            if !body(number as u64, images)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn send(&mut self) -> Option<Result<Sent>> {
        let loaded = self.feed.next()?;
        Some(loaded.and_then(|loaded| {
            let (images, labels) = (self.carrier.begin(&loaded.batch.images)?, class_tensor(&loaded.batch)?);
            let at = (loaded.epoch, loaded.number as u64);
            self.feed.recycle(loaded);
            Ok(Sent { images, labels, at })
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use flatmin_data::{ArrayOptions, Dataset, EncodedImages, EncodedOptions, Format, Frame, Pixels, digits};
    use flatmin_torch_ext::cuda::Place;
    use image::{ImageFormat, Rgb, RgbImage};
    use serde_json::{Value, json};
    use tch::Device;

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
        augmented(engine, broken, json!({ "mixup": 0.5 }))
    }

    fn augmented(engine: Engine, broken: usize, augment: Value) -> Source {
        let options = EncodedOptions { frame: Frame::square(8), ..EncodedOptions::default() };
        let set = Dataset::from_encoded(Pictures { broken }, vec![0, 1, 2, 3, 4, 5, 6], options).unwrap();
        let config = serde_json::from_value(json!({ "batchSize": 2, "augment": augment })).unwrap();
        Source::new(Feed::new(vec![(0, set)], &config, 0..2, 0).unwrap(), engine).unwrap()
    }

    /// What the batches of two epochs are: pixels, targets and sizes.
    fn batches(mut source: Source) -> Vec<Option<(Tensor, Tensor, u64)>> {
        let places = (0..2).flat_map(|epoch| (0..4).map(move |number| (epoch, number)));
        let batch = |at| {
            let input = source.next(at).unwrap();
            source.look_ahead();
            input.map(|Input { images, target, count }| (images, target.tensor().copy(), count))
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
            source.look_ahead();
        }
        assert!(source.next((2, 0)).unwrap().is_none());
    }

    #[test]
    fn images_go_to_a_device_as_bytes_and_arrive_as_the_loaders() {
        let crop = json!({ "resizedCrop": {}, "flip": true, "colorJitter": { "brightness": 0.4 } });
        let blanked = json!({ "erasing": {} });
        for (augment, as_bytes) in [(crop, true), (json!({ "mixup": 0.5 }), true), (blanked, false)] {
            let own = batches(augmented(Engine::Cpu, 7, augment.clone()));
            for engine in [Engine::Torch(Device::Cpu), Engine::Cuda(Place::twin())] {
                let source = augmented(engine, 7, augment.clone());
                assert_eq!(source.feed.loader(0).format() == Format::U8, as_bytes, "{augment}");
                assert_eq!(own, batches(source), "{augment}");
            }
        }
    }

    #[test]
    fn an_epoch_is_shown_once_more_unmixed_without_moving_on() {
        let twin = Engine::Cuda(Place::twin());
        let config = json!({"batchSize": 10, "shuffle": true, "seed": 11, "augment": {"padCrop": 2, "flip": true}});
        let config = serde_json::from_value(config).unwrap();
        let sources = [
            [Engine::Cpu, twin].map(|engine| source(&colours(), &config, 0, engine)),
            [Engine::Cpu, twin].map(|engine| augmented(engine, 7, json!({ "flip": true, "mixup": 0.5 }))),
        ];
        for [mut own, mut twin] in sources {
            let shown = |source: &mut Source, most: u64| {
                let mut images = Vec::new();
                let whole = source.show(1, |number, batch| {
                    assert_eq!(number, images.len() as u64);
                    images.push(batch.copy());
                    Ok(number + 1 < most)
                });
                (whole.unwrap(), images)
            };
            let first = [&mut own, &mut twin].map(|source| source.next((0, 0)).unwrap().unwrap().images);
            assert_eq!(first[0], first[1]);
            let expected = shown(&mut own, 9);
            assert_eq!((expected.0, expected.1.len()), (true, 4));
            assert_eq!(shown(&mut twin, 9), expected);
            assert_eq!(shown(&mut twin, 2), (false, shown(&mut own, 2).1));
            let second = [&mut own, &mut twin].map(|source| source.next((0, 1)).unwrap().unwrap().images);
            assert_eq!(second[0], second[1]);
        }
    }

    #[test]
    fn an_error_ahead_waits_for_its_turn() {
        for engine in [Engine::Cpu, Engine::Cuda(Place::twin())] {
            let mut source = pictures(engine, 5);
            for number in 0..2 {
                assert!(source.next((0, number)).unwrap().is_some());
                source.look_ahead();
            }
            assert!(source.next((0, 2)).err().unwrap().to_string().contains("picture 5"));
            assert!(source.next((0, 3)).unwrap().is_none());
        }
    }
}
