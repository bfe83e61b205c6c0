//! Training at growing sizes: which size when, what is told, exact resumption, and models that cannot.

mod common;

use std::io::Cursor;

use common::{Pair, Story, asam, config};
use flatmin_data::{Dataset, EncodedImages, EncodedOptions, Frame};
use flatmin_nn::{Dtype, Model, ModelSpec};
use flatmin_optim::{Optimizer, Target};
use flatmin_train::{Datasets, Feed, FeedConfig, ModelSlot, OptimizerSlot, TrainConfig};
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

/// PNG files in memory, each of its own size.
#[derive(Debug)]
struct Pictures(Vec<Vec<u8>>);

impl EncodedImages for Pictures {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn name(&self, index: usize) -> String {
        format!("picture {index}")
    }

    fn read(&self, index: usize, bytes: &mut Vec<u8>) -> flatmin_data::Result<()> {
        bytes.clone_from(&self.0[index]);
        Ok(())
    }
}

/// Stripes across, down and along the diagonal, one class each.
fn pictures(count: usize) -> Dataset {
    let png = |number: usize| {
        let stripe = |x: u32, y: u32| [x / 4, y / 4, (x + y) / 4][number % 3] % 2;
        let picture = RgbImage::from_fn(12 + number as u32 % 5, 14, |x, y| {
            Rgb([(200 * stripe(x, y)) as u8, (7 * number) as u8, (9 * x) as u8])
        });
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    let options = EncodedOptions { frame: Frame::square(8), ..EncodedOptions::default() };
    let labels = (0..count).map(|number| (number % 3) as u32).collect();
    Dataset::from_encoded(Pictures((0..count).map(png).collect()), labels, options).unwrap()
}

fn sets() -> Datasets {
    Datasets { train: pictures(40), validation: None, test: Some(pictures(9)) }
}

fn pair(head: Value) -> Pair {
    let body = json!([
        {"type": "conv2d", "outChannels": 6, "kernelSize": 3, "padding": 1, "bias": false},
        {"type": "batchNorm2d"},
        {"type": "relu"},
    ]);
    let layers = [body.as_array().unwrap().clone(), head.as_array().unwrap().clone()].concat();
    let spec = json!({"format": 1, "name": "small", "inputShape": [3, 8, 8], "numClasses": 3, "layers": layers});
    let mut model = Model::new(ModelSpec::from_value(spec).unwrap(), Dtype::Float32, 7).unwrap();
    let optimizer = Optimizer::new(&mut model, serde_json::from_value(asam()).unwrap()).unwrap();
    Pair { model: ModelSlot::new(model), optimizer: OptimizerSlot::new(optimizer) }
}

fn pooled() -> Pair {
    pair(json!([{"type": "globalAvgPool2d"}, {"type": "flatten"}, {"type": "linear", "outFeatures": 3}]))
}

fn growing() -> TrainConfig {
    let resizing = json!({"from": 4, "increment": 2, "startEpoch": 1, "endEpoch": 4});
    let mut options = TrainConfig { progressive_resizing: serde_json::from_value(resizing).unwrap(), ..config(5) };
    (options.augment.resized_crop, options.augment.flip) = (Some(flatmin_data::ResizedCrop::default()), true);
    options
}

#[test]
fn epochs_tell_their_size_and_tests_keep_theirs() {
    let pair = pooled();
    let story = Story::of(&pair.start(&sets(), &growing(), None).unwrap());
    let sizes: Vec<_> = story.epochs().iter().map(|epoch| epoch.image_size).collect();
    assert_eq!(sizes, [4, 4, 6, 6, 8].map(Some));
    let scores = flatmin_train::evaluate(&pair.model.lock(), &pictures(9), &Default::default(), &|| false);
    assert_eq!(story.end().result.test.as_ref().unwrap().accuracy, scores.unwrap().unwrap().accuracy);
    let plain = TrainConfig { progressive_resizing: None, ..growing() };
    let story = Story::of(&pooled().start(&sets(), &plain, None).unwrap());
    assert!(story.epochs().iter().all(|epoch| epoch.image_size.is_none()));
}

#[test]
fn a_resumed_run_equals_the_whole_one() {
    let whole = pooled();
    Story::of(&whole.start(&sets(), &growing(), None).unwrap());
    // 3 steps an epoch: before, at and after changes of the size.
    for steps in [2, 6, 7, 12] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run");
        let options = TrainConfig { run_dir: Some(path.clone()), ..growing() };
        let short = TrainConfig { max_steps: Some(steps), ..options.clone() };
        Story::of(&pooled().start(&sets(), &short, None).unwrap());
        let resumed = pooled();
        Story::of(&resumed.start(&sets(), &options, Some(&path)).unwrap());
        assert_eq!(resumed.state(), whole.state(), "resumed after {steps} steps");
    }
}

#[test]
fn a_model_that_is_tied_to_its_size_is_refused() {
    let flat = pair(json!([{"type": "flatten"}, {"type": "linear", "outFeatures": 3}]));
    let error = flat.start(&sets(), &growing(), None).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_SHAPE");
    assert!(error.to_string().contains("would be [3, 96], and it is [3, 384]"), "{error}");
    // In its own size it trains.
    let plain = TrainConfig { progressive_resizing: None, ..config(1) };
    Story::of(&flat.start(&sets(), &plain, None).unwrap());
}

#[test]
fn images_in_memory_have_one_size() {
    let error = Pair::new(asam()).start(&common::sets(), &growing(), None).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
}

/// Images and targets of all batches that are left.
fn read(mut feed: Feed) -> Vec<(Tensor, Tensor)> {
    let mut batches = Vec::new();
    while let Some(loaded) = feed.next() {
        let loaded = loaded.unwrap();
        let (images, target) = feed.tensors(&loaded).unwrap();
        feed.recycle(loaded);
        let (Target::Classes(target) | Target::Dense(target)) = target;
        batches.push((images, target));
    }
    batches
}

fn feed(options: Value) -> FeedConfig {
    let mut all = json!({"batchSize": 16, "shuffle": true, "seed": 5, "loaderThreads": 2});
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

#[test]
fn a_feed_goes_from_size_to_size_and_can_be_taken_up_anywhere() {
    let stages = || growing().stages(&pictures(40)).unwrap();
    let config = feed(json!({"augment": {"flip": true, "mixup": 0.4}}));
    let all = read(Feed::new(stages(), &config, 0..5, 0).unwrap());
    let sizes: Vec<i64> = all.iter().map(|(images, _)| images.size()[2]).collect();
    assert_eq!(sizes, [4, 4, 4, 4, 4, 4, 6, 6, 6, 6, 6, 6, 8, 8, 8]);
    for start in [1, 5, 6, 11, 14] {
        let from = |epoch: usize, batch| read(Feed::new(stages(), &config, epoch as u64..5, batch).unwrap());
        assert_eq!(from(start / 3, start % 3), all[start..], "from {start}");
        // Where an epoch's steps are done, but not what follows them.
        assert_eq!(from(start / 3, 3), all[start / 3 * 3 + 3..], "after epoch {}", start / 3);
    }
}

#[test]
fn number_types_show_the_same_images() {
    let set = || vec![(0, pictures(40))];
    let of = |dtype: &str, augment: &Value| {
        read(Feed::new(set(), &feed(json!({"dtype": dtype, "augment": augment})), 2..3, 0).unwrap())
    };
    for augment in [json!({"flip": true}), json!({"mixup": 0.4})] {
        let single = of("float32", &augment);
        for (dtype, kind) in [("bfloat16", Kind::BFloat16), ("float64", Kind::Double)] {
            for ((images, target), (expected, classes)) in of(dtype, &augment).iter().zip(&single) {
                assert_eq!((images.kind(), target), (kind, classes));
                let distance = (images.to_kind(Kind::Double) - expected.to_kind(Kind::Double)).abs().max();
                assert!(distance.double_value(&[]) < if kind == Kind::Double { 1e-6 } else { 0.01 });
                if kind == Kind::BFloat16 {
                    assert_eq!(images, &expected.to_kind(kind));
                }
            }
        }
    }
    let bytes = of("uint8", &json!({}));
    assert_eq!((bytes[0].0.kind(), bytes[0].0.size()), (Kind::Uint8, vec![16, 3, 8, 8]));
    let error = Feed::new(set(), &feed(json!({"dtype": "uint8", "augment": {"cutmix": 1.0}})), 0..1, 0).map(|_| ());
    assert_eq!(error.unwrap_err().code(), "ERR_FLATMIN_OPTION");
}
