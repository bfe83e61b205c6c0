//! `BindingDataset`: images with labels. Splits, subsets and noisy copies share the pixels.

use flatmin_data::{ArrayOptions, Dataset, Frame, ImageShape, Pixels, SplitSize, digits};
use napi::Env;
use napi::bindgen_prelude::{Float32Array, PromiseRaw, Uint32Array};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::Value;

use crate::compute;
use crate::disposable::Disposable;
use crate::errors::{OrThrow, failure, wrong_option};
use crate::json::{options, options_or_default, to_json};
use crate::source::Source;

#[napi]
pub struct BindingDataset {
    set: Disposable<Dataset>,
}

impl From<Dataset> for BindingDataset {
    fn from(set: Dataset) -> Self {
        Self { set: Disposable::new("data set", set) }
    }
}

impl BindingDataset {
    /// A handle to the same images.
    pub fn set(&self) -> napi::Result<Dataset> {
        self.set.get()
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FromArraysOptions {
    name: Option<String>,
    num_classes: Option<usize>,
    class_names: Option<Vec<String>>,
}

#[napi]
impl BindingDataset {
    /// The embedded digits: 1,797 images of 8 x 8 pixels.
    #[napi]
    pub fn digits() -> napi::Result<Self> {
        Ok(digits().or_throw()?.into())
    }

    /// Reads a set from files: `{ type: 'cifar10', dir, split }` and the other sources.
    #[napi(ts_args_type = "source: object", ts_return_type = "Promise<BindingDataset>")]
    pub fn open(env: &Env, source: Value) -> napi::Result<PromiseRaw<'_, Self>> {
        let source: Source = options("data set", source)?;
        compute::promise(env, move || Ok(source.open().or_throw()?.into()))
    }

    /// Bytes, 255 is white. `shape` is [images, height, width, channels].
    #[napi(ts_args_type = "images: Uint8Array, shape: number[], labels: Uint32Array, \
                           options?: { classNames?: string[], numClasses?: number, name?: string }")]
    pub fn from_uint8(images: &[u8], shape: Vec<i64>, labels: &[u32], options: Option<Value>) -> napi::Result<Self> {
        Self::from_arrays(Pixels::U8(images.to_vec()), &shape, labels, options)
    }

    /// Numbers meant to lie in [0, 1]. `shape` is [images, height, width, channels].
    #[napi(ts_args_type = "images: Float32Array, shape: number[], labels: Uint32Array, \
                           options?: { classNames?: string[], numClasses?: number, name?: string }")]
    pub fn from_float32(images: &[f32], shape: Vec<i64>, labels: &[u32], options: Option<Value>) -> napi::Result<Self> {
        Self::from_arrays(Pixels::F32(images.to_vec()), &shape, labels, options)
    }

    #[napi(getter)]
    pub fn length(&self) -> napi::Result<u32> {
        self.set.with(|set| set.len() as u32)
    }

    #[napi(getter)]
    pub fn name(&self) -> napi::Result<String> {
        self.set.with(|set| set.name().to_owned())
    }

    /// Height, width, channels.
    #[napi(getter)]
    pub fn shape(&self) -> napi::Result<Vec<u32>> {
        let ImageShape { height, width, channels } = self.set.with(Dataset::shape)?;
        Ok([height, width, channels].map(|size| size as u32).to_vec())
    }

    #[napi(getter)]
    pub fn class_names(&self) -> napi::Result<Vec<String>> {
        self.set.with(|set| set.class_names().to_vec())
    }

    #[napi(getter)]
    pub fn num_classes(&self) -> napi::Result<u32> {
        self.set.with(|set| set.num_classes() as u32)
    }

    /// The recommended one, for pixels in [0, 1].
    #[napi(getter, ts_return_type = "{ mean: number[], std: number[] }")]
    pub fn normalization(&self) -> napi::Result<Value> {
        to_json(&flatmin_train::for_model(self.set()?.normalization()))
    }

    /// All labels, copied.
    #[napi]
    pub fn labels(&self) -> napi::Result<Uint32Array> {
        self.set.with(|set| Uint32Array::new(set.labels().to_vec()))
    }

    /// Pixels of one image in [0, 1], [height, width, channels].
    #[napi]
    pub fn pixels(&self, index: u32) -> napi::Result<Float32Array> {
        Ok(Float32Array::new(self.set()?.pixels(index as usize).or_throw()?))
    }

    /// Label of one image.
    #[napi]
    pub fn label(&self, index: u32) -> napi::Result<u32> {
        self.set()?.label(index as usize).or_throw()
    }

    /// Path of one image, or its shard and member; null for images in memory.
    #[napi(ts_return_type = "string | null")]
    pub fn image_name(&self, index: u32) -> napi::Result<Option<String>> {
        self.set()?.image_name(index as usize).or_throw()
    }

    /// Parts of so many images each, drawn by seed, without common images.
    #[napi]
    pub fn split(&self, sizes: Vec<u32>, seed: i64) -> napi::Result<Vec<BindingDataset>> {
        let sizes: Vec<SplitSize> = sizes.into_iter().map(|size| SplitSize::Count(size as usize)).collect();
        let parts = self.set()?.split(&sizes, parse_seed(seed)?).or_throw()?;
        Ok(parts.into_iter().map(Self::from).collect())
    }

    /// Exactly `round(length * fraction)` labels replaced by another class, drawn uniformly by seed.
    #[napi]
    pub fn with_label_noise(&self, fraction: f64, seed: i64) -> napi::Result<Self> {
        Ok(self.set()?.with_label_noise(fraction, parse_seed(seed)?).or_throw()?.into())
    }

    /// The first `count` images, or all when there are fewer.
    #[napi]
    pub fn take(&self, count: u32) -> napi::Result<Self> {
        Ok(self.set()?.take(count as usize).or_throw()?.into())
    }

    /// The same image files in another size; `resize` is the shorter side before the centre is cut out.
    #[napi]
    pub fn with_size(&self, height: u32, width: u32, resize: u32) -> napi::Result<Self> {
        let [height, width, resize] = [height, width, resize].map(|side| side as usize);
        Ok(self.set()?.with_frame(Frame { height, width, resize }).or_throw()?.into())
    }

    /// Images that could not be read or decoded so far.
    #[napi(ts_return_type = "{ count: number, messages: string[] }")]
    pub fn faults(&self) -> napi::Result<Value> {
        to_json(&self.set()?.faults())
    }

    /// Lets go of the images; they are freed once no other set and no run uses them.
    #[napi]
    pub fn dispose(&self) {
        self.set.dispose();
    }

    fn from_arrays(pixels: Pixels, shape: &[i64], labels: &[u32], options: Option<Value>) -> napi::Result<Self> {
        let FromArraysOptions { name, num_classes, class_names } = options_or_default("dataset", options)?;
        let sizes: Vec<usize> = shape.iter().filter_map(|&size| usize::try_from(size).ok()).collect();
        let [count, height, width, channels] = sizes[..] else {
            let message = format!("images have shape {shape:?}; expected [images, height, width, channels]");
            return Err(failure("ERR_FLATMIN_SHAPE", message));
        };
        if labels.len() != count {
            let message = format!("there are {} labels; expected {count}, one an image", labels.len());
            return Err(failure("ERR_FLATMIN_SHAPE", message));
        }
        let shape = ImageShape { height, width, channels };
        let options = ArrayOptions { name, num_classes, class_names };
        Ok(Dataset::from_arrays(pixels, shape, labels.to_vec(), options).or_throw()?.into())
    }
}

fn parse_seed(seed: i64) -> napi::Result<u64> {
    u64::try_from(seed).map_err(|_| wrong_option("seed", seed, "a whole number, 0 or more"))
}
