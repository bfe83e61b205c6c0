//! Names what images show: the likeliest classes of a model, with their probabilities.

use std::path::Path;

use flatmin_data::{ImageShape, Images, decode_image};
use flatmin_nn::{Model, ModelSpec, Pass};
use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

use crate::batch::{check_images, input_tensor};
use crate::error::{Error, Result};

/// Image files that go through the model together.
const BATCH: usize = 64;

/// A class that an image may show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    pub label: i64,
    /// The class's name, or its number if the model knows no names.
    pub name: String,
    /// Softmax of the logits.
    pub probability: f64,
}

/// The `top_k` likeliest classes of each image, likeliest first.
///
/// `images` is `[batch, channels, height, width]` or one image `[channels, height, width]`: pixels in `[0, 1]`, or
/// uint8 in 0..=255. The model's normalisation, if it has one, is applied here.
///
/// # Errors
/// `ERR_FLATMIN_SHAPE` if the images do not fit the model, `ERR_FLATMIN_OPTION` if `top_k` is 0.
pub fn predict(model: &Model, images: &Tensor, top_k: usize) -> Result<Vec<Vec<Prediction>>> {
    if top_k == 0 {
        return Err(Error::option("topK", 0, "a whole number, 1 or more"));
    }
    let images = normalized(model, images)?;
    let logits = no_grad(|| model.forward(&images, Pass::Eval))?;
    let spec = model.spec();
    let top_k = (top_k as i64).min(spec.num_classes);
    let (probabilities, labels) = logits.f_softmax(-1, Kind::Double)?.f_topk(top_k, -1, true, true)?;
    let probabilities = Vec::<Vec<f64>>::try_from(probabilities)?;
    let labels = Vec::<Vec<i64>>::try_from(labels)?;
    let row = |(labels, probabilities): (Vec<i64>, Vec<f64>)| {
        labels.into_iter().zip(probabilities).map(|(label, probability)| named(spec, label, probability)).collect()
    };
    Ok(labels.into_iter().zip(probabilities).map(row).collect())
}

/// As [`predict`], for PNG, JPEG and WebP files, scaled and cropped to the model's input.
///
/// # Errors
/// `ERR_FLATMIN_PATH` or `ERR_FLATMIN_FORMAT` for a file that cannot be read.
pub fn predict_files<P: AsRef<Path>>(model: &Model, paths: &[P], top_k: usize) -> Result<Vec<Vec<Prediction>>> {
    let [channels, height, width] = model.spec().input_shape.map(|size| size as usize);
    let shape = ImageShape { height, width, channels };
    let mut predictions = Vec::with_capacity(paths.len());
    for paths in paths.chunks(BATCH) {
        let mut pixels = Vec::with_capacity(paths.len() * shape.elements());
        for path in paths {
            pixels.extend(decode_image(path.as_ref())?.resize(shape)?);
        }
        let images = input_tensor(&Images::F32(pixels), shape, model.input_options())?;
        predictions.extend(predict(model, &images, top_k)?);
    }
    Ok(predictions)
}

/// Pixels as the model was trained on them, in its dtype and on its device.
fn normalized(model: &Model, images: &Tensor) -> Result<Tensor> {
    let images = match images.size().len() {
        3 => images.f_unsqueeze(0)?,
        _ => images.shallow_clone(),
    };
    let (kind, device) = model.input_options();
    let images = images.f_to_device(device)?;
    check_images(&images, model)?;
    let pixels = match images.kind() {
        Kind::Uint8 => images.f_to_kind(kind)?.f_div_scalar(255.0)?,
        Kind::Float | Kind::Double => images.f_to_kind(kind)?,
        other => {
            let expected = "uint8, float32 or float64".to_owned();
            return Err(Error::Dtype { what: "images".into(), found: format!("{other:?}"), expected });
        }
    };
    let Some(normalization) = &model.spec().normalization else {
        return Ok(pixels);
    };
    let per_channel =
        |values: &[f64]| Tensor::f_from_slice(values)?.f_to_kind(kind)?.f_to_device(device)?.f_view([1, -1, 1, 1]);
    let (mean, std) = (per_channel(&normalization.mean)?, per_channel(&normalization.std)?);
    Ok(pixels.f_sub(&mean)?.f_div(&std)?)
}

fn named(spec: &ModelSpec, label: i64, probability: f64) -> Prediction {
    let name = spec.class_names.as_ref().and_then(|names| names.get(label as usize)).cloned();
    Prediction { label, name: name.unwrap_or_else(|| label.to_string()), probability }
}
