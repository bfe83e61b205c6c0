//! Evaluation and prediction.

mod common;

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Pair, Story, asam, config, images, sets};
use flatmin_data::{ArrayOptions, Dataset, EncodedImages, EncodedOptions, Frame, ImageShape, Images, Pixels};
use flatmin_nn::{Dtype, Engine, Model, Normalization, Pass};
use flatmin_optim::{Loss, Target};
use flatmin_torch_ext::cuda::Place;
use flatmin_train::{EvaluateOptions, EvaluationBatches, Metric, evaluate, image_tensor, predict};
use image::{ImageFormat, Rgb, RgbImage};
use tch::{Device, Kind, Tensor};

fn engines() -> [Engine; 3] {
    [Engine::Cpu, Engine::Torch(Device::Cpu), Engine::Cuda(Place::twin())]
}

/// 50 images of bytes.
fn bytes() -> Dataset {
    let shape = ImageShape { height: 6, width: 6, channels: 2 };
    let pixels = (0..50 * shape.elements()).map(|index| (index * 37 % 251) as u8).collect();
    let labels = (0..50).map(|index| index % 3).collect();
    Dataset::from_arrays(Pixels::U8(pixels), shape, labels, ArrayOptions::default()).unwrap()
}

fn trained() -> Pair {
    let pair = Pair::new(asam());
    Story::of(&pair.start(&sets(), &config(4), None).unwrap());
    pair
}

#[test]
fn scores_do_not_depend_on_the_batch_size() {
    let pair = trained();
    let model = pair.model.lock();
    let metrics = vec![Metric::Ece, Metric::ConfusionMatrix];
    let scores = |batch_size: usize, limit: Option<usize>| {
        let options = EvaluateOptions { batch_size, limit, metrics: metrics.clone(), ..EvaluateOptions::default() };
        evaluate(&model, &images(50, 9), &options, &|| false).unwrap().unwrap()
    };
    let (whole, pieces) = (scores(50, None), scores(7, None));
    assert_eq!((whole.count, whole.accuracy, whole.top5), (50, pieces.accuracy, 1.0));
    assert!((whole.loss - pieces.loss).abs() < 1e-5 && (whole.ece.unwrap() - pieces.ece.unwrap()).abs() < 1e-5);
    let matrix = whole.confusion_matrix.unwrap();
    let diagonal: u64 = (0..3).map(|class| matrix[class][class]).sum();
    assert_eq!(diagonal as f64 / 50.0, whole.accuracy);
    assert_eq!(scores(50, Some(20)).count, 20);
}

#[test]
fn a_device_shows_the_same_images() {
    let read = |engine, dtype, set: &Dataset, resident: bool| {
        let model = Model::new(common::spec(), dtype, 3).unwrap().moved(engine).unwrap();
        let options = EvaluateOptions { batch_size: 8, limit: Some(30), ..EvaluateOptions::default() };
        let batches = EvaluationBatches::new(&model, set, &options).unwrap();
        assert_eq!((batches.images(), batches.is_resident()), (30, resident));
        // What was broken off begins anew.
        assert_eq!(batches.iter().take(2).count(), 2);
        let all = batches.iter().map(|batch| {
            let batch = batch.unwrap();
            assert_eq!(Vec::<i64>::try_from(batch.target.tensor()).unwrap(), batch.labels);
            (batch.images.stride(), batch.images, batch.labels)
        });
        all.collect::<Vec<_>>()
    };
    for dtype in [Dtype::Float32, Dtype::Float64, Dtype::BFloat16] {
        for (set, is_bytes) in [(bytes(), true), (images(50, 9), false)] {
            let [own, torch, cuda] =
                engines().map(|engine| read(engine, dtype, &set, is_bytes && matches!(engine, Engine::Cuda(_))));
            assert_eq!(own.len(), 4);
            assert!(own == torch && own == cuda, "{dtype:?}");
        }
    }
}

#[test]
fn many_batches_score_alike_on_all_engines() {
    for set in [bytes(), images(50, 9)] {
        for loss in [
            Loss::default(),
            Loss::CrossEntropy { label_smoothing: 0.1, class_weights: Some(vec![1.0, 2.0, 4.0].into()) },
        ] {
            let metrics = vec![Metric::Ece, Metric::ConfusionMatrix];
            let options = EvaluateOptions { batch_size: 2, loss, metrics, ..EvaluateOptions::default() };
            let [own, torch, cuda] = engines().map(|engine| {
                let model = Model::new(common::spec(), Dtype::Float64, 3).unwrap().moved(engine).unwrap();
                evaluate(&model, &set, &options, &|| false).unwrap().unwrap()
            });
            for other in [torch, cuda] {
                assert!((own.loss - other.loss).abs() < 1e-12 && (own.ece.unwrap() - other.ece.unwrap()).abs() < 1e-12);
                assert_eq!((own.count, own.accuracy, own.top5), (other.count, other.accuracy, other.top5));
                assert_eq!(own.confusion_matrix, other.confusion_matrix);
            }
        }
    }
}

/// Seven PNG files in memory, of which one may be no image; counts what is read.
#[derive(Debug)]
struct Pictures {
    broken: Option<usize>,
    read: Arc<AtomicUsize>,
}

impl EncodedImages for Pictures {
    fn len(&self) -> usize {
        7
    }

    fn name(&self, index: usize) -> String {
        format!("picture {index}")
    }

    fn read(&self, index: usize, bytes: &mut Vec<u8>) -> flatmin_data::Result<()> {
        self.read.fetch_add(1, Ordering::SeqCst);
        let mut file = Cursor::new(Vec::new());
        let picture = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8, y as u8, index as u8]));
        picture.write_to(&mut file, ImageFormat::Png).unwrap();
        *bytes = if self.broken == Some(index) { b"no image".to_vec() } else { file.into_inner() };
        Ok(())
    }
}

#[test]
fn a_device_is_sent_the_next_batch_of_a_loader_before_this_one_is_handed_out() {
    let spec = serde_json::json!({
        "format": 1, "name": "pictures", "inputShape": [3, 8, 8], "numClasses": 7,
        "layers": [{"type": "flatten"}, {"type": "linear", "outFeatures": 7}],
    });
    let spec = flatmin_nn::ModelSpec::from_value(spec).unwrap();
    for (engine, ahead) in engines().into_iter().zip([false, false, true]) {
        let model = Model::new(spec.clone(), Dtype::Float32, 3).unwrap().moved(engine).unwrap();
        let batches = |broken| {
            let read = Arc::new(AtomicUsize::new(0));
            let frame = EncodedOptions { frame: Frame::square(8), ..EncodedOptions::default() };
            let pictures = Pictures { broken, read: read.clone() };
            let set = Dataset::from_encoded(pictures, vec![0, 1, 2, 3, 4, 5, 6], frame).unwrap();
            let options = EvaluateOptions { batch_size: 2, loader_threads: Some(0), ..EvaluateOptions::default() };
            (EvaluationBatches::new(&model, &set, &options).unwrap(), read)
        };
        let (whole, read) = batches(None);
        for (number, batch) in whole.iter().enumerate() {
            let read = read.load(Ordering::SeqCst);
            assert_eq!(read, 7.min(2 * (number + 1 + usize::from(ahead))), "{engine:?}");
            assert_eq!(batch.unwrap().labels[0], 2 * number as i64);
        }
        let (broken, _) = batches(Some(5));
        let told: Vec<_> = broken.iter().map(|batch| batch.map_err(|error| error.to_string())).collect();
        assert_eq!(told.len(), 3);
        assert!(told[0].is_ok() && told[1].is_ok(), "an error waits for its turn");
        assert!(told[2].as_ref().is_err_and(|error| error.contains("picture 5")));
    }
}

#[test]
fn mirrored_images_take_part_in_logits() {
    let set = images(30, 9);
    let turned = {
        let shape = set.shape();
        let row = shape.width * shape.channels;
        let pixels = (0..set.len()).flat_map(|image| set.pixels(image).unwrap());
        let mut pixels: Vec<f32> = pixels.collect();
        for row in pixels.chunks_exact_mut(row) {
            let pixels: Vec<&[f32]> = row.chunks_exact(shape.channels).rev().collect();
            let turned = pixels.concat();
            row.copy_from_slice(&turned);
        }
        let options = ArrayOptions { num_classes: Some(set.num_classes()), ..ArrayOptions::default() };
        Dataset::from_arrays(Pixels::F32(pixels), shape, set.labels().to_vec(), options).unwrap()
    };
    for engine in engines() {
        let model = Model::new(common::spec(), Dtype::Float64, 3).unwrap().moved(engine).unwrap();
        let normalization = Some(Normalization { mean: vec![0.4, 0.5], std: vec![0.25, 0.5] });
        let options = EvaluateOptions { normalization, batch_size: 8, ..EvaluateOptions::default() };
        let both = EvaluateOptions { mirror: true, ..options.clone() };
        let scores = |set, options| evaluate(&model, set, options, &|| false).unwrap().unwrap();
        assert!(scores(&set, &options).loss != scores(&turned, &options).loss);
        assert!((scores(&set, &both).loss - scores(&turned, &both).loss).abs() < 1e-12, "{engine:?}");

        let logits = |set| {
            let batches = EvaluationBatches::new(&model, set, &options).unwrap();
            let logits = batches.iter().map(|batch| tch::no_grad(|| model.forward(&batch.unwrap().images, Pass::Eval)));
            Tensor::cat(&logits.collect::<Result<Vec<_>, _>>().unwrap(), 0)
        };
        let labels: Vec<i64> = set.labels().iter().map(|&label| i64::from(label)).collect();
        let mean = (logits(&set) + logits(&turned)) / 2.0;
        let target = Target::Classes(Tensor::from_slice(&labels));
        let loss = Loss::default().apply(&mean, &target).unwrap().double_value(&[]);
        assert!((scores(&set, &both).loss - loss).abs() < 1e-12, "{engine:?}");
    }
}

#[test]
fn an_evaluation_can_be_interrupted() {
    let pair = Pair::new(asam());
    let answer = evaluate(&pair.model.lock(), &images(50, 9), &EvaluateOptions::default(), &|| true);
    assert_eq!(answer.unwrap(), None);
}

#[test]
fn predictions_are_sorted_named_and_normalised() {
    let mut model = Model::new(common::spec(), Dtype::Float64, 3).unwrap();
    model.set_class_names(Some(vec!["a".into(), "b".into(), "c".into()])).unwrap();
    model.set_normalization(Some(Normalization { mean: vec![0.4, 0.5], std: vec![0.25, 0.5] })).unwrap();
    let set = images(4, 1);
    let pixels: Vec<f32> = (0..4).flat_map(|image| set.pixels(image).unwrap()).collect();
    let images = image_tensor(&Images::F32(pixels), set.shape(), Device::Cpu).unwrap();
    let predictions = predict(&model, &images, 9).unwrap();
    assert_eq!(predictions.len(), 4);

    let stretch = |values: [f64; 2]| Tensor::from_slice(&values).view([1, 2, 1, 1]);
    let normalised = (images.to_kind(Kind::Double) - stretch([0.4, 0.5])) / stretch([0.25, 0.5]);
    let expected = tch::no_grad(|| model.forward(&normalised, Pass::Eval)).unwrap().softmax(-1, Kind::Double);
    for (row, prediction) in predictions.iter().enumerate() {
        assert_eq!(prediction.len(), 3);
        assert!(prediction.is_sorted_by(|one, next| one.probability >= next.probability));
        for entry in prediction {
            assert_eq!(entry.name, ["a", "b", "c"][entry.label as usize]);
            assert!((entry.probability - expected.double_value(&[row as i64, entry.label])).abs() < 1e-6);
        }
    }
    let bytes = (&images * 255.0).round().to_kind(Kind::Uint8);
    let from_bytes = predict(&model, &bytes, 1).unwrap();
    assert!((from_bytes[0][0].probability - predictions[0][0].probability).abs() < 0.01);
    assert_eq!(predict(&model, &images, 0).unwrap_err().code(), "ERR_FLATMIN_OPTION");
    assert_eq!(predict(&model, &images.narrow(1, 0, 1), 1).unwrap_err().code(), "ERR_FLATMIN_SHAPE");
    // Global pooling takes images of any size.
    assert_eq!(predict(&model, &images.narrow(2, 0, 5), 1).unwrap().len(), 4);
}
