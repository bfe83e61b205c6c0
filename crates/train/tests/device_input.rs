//! Batches made on the device are the loader's, bit for bit: the kernel's CPU twin beside the loader itself.

use flatmin_data::{ArrayOptions, Crop, Dataset, ImageShape, Loader, LoaderOptions, Normalization, Pixels, Transform};
use flatmin_torch_ext::cuda::{Augmentation, Feed, Images, Place};
use tch::{Device, Kind, Tensor};

const SHAPE: ImageShape = ImageShape { height: 9, width: 8, channels: 3 };
const COUNT: usize = 37;
const BATCH: usize = 10;
const SEED: u64 = 11;

fn bytes() -> Vec<u8> {
    (0..COUNT * SHAPE.elements()).map(|index| (index * 37 % 251) as u8).collect()
}

fn labels() -> Vec<u32> {
    (0..COUNT as u32).map(|index| index % 5).collect()
}

fn normalization() -> Normalization {
    Normalization { mean: vec![0.5, 0.25, 0.125], std: vec![0.5, 0.25, 0.2] }
}

fn loader(augmentation: Augmentation) -> Loader {
    let mut transform = Transform::plain(normalization());
    transform.crop = Crop::Pad(augmentation.padding);
    transform.flip = augmentation.flip;
    transform.cutout = (augmentation.cutout > 0).then_some(augmentation.cutout);
    let set = Dataset::from_arrays(Pixels::U8(bytes()), SHAPE, labels(), ArrayOptions::default()).unwrap();
    let options = LoaderOptions { batch_size: BATCH, seed: SEED, threads: 0, ..LoaderOptions::new(transform) };
    Loader::new(set, options).unwrap()
}

#[test]
fn the_device_shows_the_loaders_images() {
    let place = Place::twin();
    let (gain, bias) = normalization().gain_and_bias(255.0);
    let [height, width, channels] = [SHAPE.height, SHAPE.width, SHAPE.channels].map(|side| side as i64);
    let pixels = Tensor::from_slice(&bytes()).reshape([COUNT as i64, height, width, channels]);
    let classes: Vec<i64> = labels().into_iter().map(i64::from).collect();
    let images = Images::new(&place, &pixels, &Tensor::from_slice(&classes), &gain, &bias).unwrap();
    let order = Tensor::arange(COUNT as i64, (Kind::Int, Device::Cpu));
    for augmentation in [
        Augmentation { padding: 4, flip: true, cutout: 0 },
        Augmentation { padding: 0, flip: true, cutout: 3 },
        Augmentation { padding: 2, flip: false, cutout: 4 },
    ] {
        let loader = loader(augmentation);
        let mut feed = Feed::new(&place, COUNT, SEED).unwrap();
        for epoch in 0..3 {
            feed.begin(epoch, 0, &order).unwrap();
            for batch in loader.epoch(epoch, 0) {
                let batch = batch.unwrap();
                let count = batch.count as i64;
                let out = Tensor::zeros([count, height, width, channels], (Kind::Float, Device::Cpu));
                let shown = Tensor::zeros([count], (Kind::Int64, Device::Cpu));
                images.next_batch(&place, &mut feed, augmentation, &out, &shown).unwrap();
                let flatmin_data::Images::F32(expected) = &batch.images else { panic!("not float32") };
                assert_eq!(out, Tensor::from_slice(expected).reshape([count, height, width, channels]));
                assert_eq!(shown, Tensor::from_slice(&batch.labels));
            }
        }
    }
}
