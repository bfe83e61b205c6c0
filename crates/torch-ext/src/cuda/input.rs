//! Small images that live on the device as bytes: batches are cropped, mirrored, normalised and cut out there, the same
//! ones bit for bit as the loader of `flatmin-data` shows for the same seed, epoch and position.

use tch::{Kind, Tensor};

use super::cut::Scratch;
use super::ffi;
use super::place::{Place, number};
use crate::error::{Error, Result};

/// A set on the device. A byte v of channel c becomes `v * gain[c] + bias[c]`.
pub struct Images {
    /// uint8, `[count, height, width, channels]`.
    pixels: Tensor,
    /// int64, `[count]`.
    labels: Tensor,
    gain: [f32; ffi::CHANNELS],
    bias: [f32; ffi::CHANNELS],
}

/// What is done to each image, in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Augmentation {
    /// Black pixels on each side before a random part of the old size is cut out; 0: none.
    pub padding: usize,
    /// Mirror left to right with probability 1/2.
    pub flip: bool,
    /// Side of a square that is blanked at a random place; 0: none.
    pub cutout: usize,
}

/// Which images come next, in device memory: a captured step goes on by itself.
pub struct Feed {
    /// `[epoch, next]`, int64.
    values: Tensor,
    /// Positions in the set, int32.
    order: Tensor,
    seed: u64,
    scratch: Scratch,
}

impl Images {
    /// One gain and bias a channel, four channels at most.
    ///
    /// # Errors
    /// [`Error::Argument`] for other shapes.
    pub fn new(place: &Place, pixels: &Tensor, labels: &Tensor, gain: &[f32], bias: &[f32]) -> Result<Self> {
        let shape = pixels.size();
        let channels = shape.get(3).copied().unwrap_or(0) as usize;
        if shape.len() != 4 || !(1..=ffi::CHANNELS).contains(&channels) || pixels.kind() != Kind::Uint8 {
            return Err(Error::Argument {
                what: "images",
                found: format!("{:?} {shape:?}", pixels.kind()),
                expected: format!("uint8 [count, height, width, channels] with 1 to {} channels", ffi::CHANNELS),
            });
        }
        if labels.size() != [shape[0]] || labels.kind() != Kind::Int64 {
            return Err(Error::Argument {
                what: "labels",
                found: format!("{:?} {:?}", labels.kind(), labels.size()),
                expected: format!("int64 [{}]", shape[0]),
            });
        }
        if gain.len() != channels || bias.len() != channels {
            return Err(Error::Argument {
                what: "normalisation",
                found: format!("{} gains and {} biases", gain.len(), bias.len()),
                expected: format!("{channels} of each, one a channel"),
            });
        }
        let (mut gains, mut biases) = ([0.0; ffi::CHANNELS], [0.0; ffi::CHANNELS]);
        gains[..channels].copy_from_slice(gain);
        biases[..channels].copy_from_slice(bias);
        Ok(Self {
            pixels: pixels.f_contiguous()?.f_to_device(place.device())?,
            labels: labels.f_contiguous()?.f_to_device(place.device())?,
            gain: gains,
            bias: biases,
        })
    }

    /// Images.
    pub fn len(&self) -> usize {
        self.pixels.size()[0] as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[height, width, channels]`.
    pub fn shape(&self) -> [usize; 3] {
        let size = self.pixels.size();
        [1, 2, 3].map(|axis| size[axis] as usize)
    }

    /// Writes the next images of the feed into `out` (`[batch, channels, height, width]`, channels-last, float32, float64 or
    /// bfloat16) and their classes into `labels` (int64, `[batch]`), and moves the feed on.
    pub fn next_batch(
        &self,
        place: &Place,
        feed: &mut Feed,
        augmentation: Augmentation,
        out: &Tensor,
        labels: &Tensor,
    ) -> Result<()> {
        let [height, width, channels] = self.shape();
        let batch = labels.numel();
        if augmentation.padding > 0 && augmentation.padding >= height.min(width) {
            return Err(Error::Argument {
                what: "padding",
                found: augmentation.padding.to_string(),
                expected: format!("less than both sides of the {height} x {width} images"),
            });
        }
        let images = ffi::Images {
            pixels: self.pixels.data_ptr().cast(),
            labels: self.labels.data_ptr().cast(),
            count: self.len() as i64,
            gain: self.gain,
            bias: self.bias,
            height: height as i32,
            width: width as i32,
            channels: channels as i32,
        };
        let augment = ffi::Augment {
            order: feed.order.data_ptr().cast(),
            order_len: feed.order.numel() as i64,
            feed: feed.values.data_ptr().cast(),
            out: place.address("a batch", out, out.kind(), batch * height * width * channels)?,
            labels: place.address("a batch's labels", labels, Kind::Int64, batch)?.cast(),
            seed: feed.seed,
            batch: batch as i32,
            number: number("a batch", out.kind())?,
            padding: augmentation.padding as i32,
            flip: augmentation.flip.into(),
            cutout: augmentation.cutout as i32,
            advance: 1,
        };
        place.check((place.kernels.augment)(place.stream()?, &images, &augment, &feed.scratch.raw()))
    }
}

impl Feed {
    /// For a set of so many images, at the beginning of epoch 0, in order. `seed` is the loader's.
    pub fn new(place: &Place, images: usize, seed: u64) -> Result<Self> {
        let order: Vec<i32> = (0..images as i32).collect();
        Ok(Self {
            values: place.zeros(&[2], Kind::Int64)?,
            order: place.bring(&Tensor::f_from_slice(&order)?)?,
            seed,
            scratch: Scratch::new(place, 0)?,
        })
    }

    /// Starts an epoch: its number fixes the augmentation, `order` (int32) the images. The addresses stay.
    pub fn begin(&mut self, epoch: u64, first: usize, order: &Tensor) -> Result<()> {
        self.order.f_copy_(order)?;
        self.values.f_copy_(&Tensor::f_from_slice(&[epoch as i64, first as i64])?)?;
        Ok(())
    }
}
