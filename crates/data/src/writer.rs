//! Writes images of a set into a batch as a transform has them.
//! What happens to an image follows from (seed, epoch, its position in the set) alone.

use crate::canvas::Canvas;
use crate::crop::centre;
use crate::dataset::{Content, Dataset, ImageShape, Pixels, range_of};
use crate::encoded::EncodedImages;
use crate::erase::cutout;
use crate::error::{Error, Result};
use crate::picture::{Picture, Workspace};
use crate::place::{Placement, Placer};
use crate::plane::Region;
use crate::policy::Policy;
use crate::random::{Purpose, Stream};
use crate::resample::{Span, View};
use crate::sample::{Format, Sample};
use crate::transform::{Crop, Transform};

/// A transform made ready for one set.
pub(crate) struct Writer {
    pub(crate) transform: Transform,
    shape: ImageShape,
    /// For pixels in memory, as they are stored.
    placer: Placer,
    /// For 8-bit pictures.
    gain: Vec<f32>,
    bias: Vec<f32>,
    /// The mean of each channel as batches have it: what is blanked.
    mean: Vec<f32>,
}

/// Memory of one thread.
#[derive(Default)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    workspace: Workspace,
    canvas: Canvas,
    spare: Canvas,
}

/// An image and when it is shown: all that its augmentation depends on.
#[derive(Clone, Copy)]
pub(crate) struct Showing {
    /// Position in the set.
    pub(crate) index: usize,
    pub(crate) seed: u64,
    pub(crate) epoch: u64,
}

impl Writer {
    /// Batches of this format are what [`Self::write`] may be asked for.
    pub(crate) fn new(transform: &Transform, format: Format, set: &Dataset) -> Result<Self> {
        let shape = set.shape();
        transform.normalization.validate(shape.channels)?;
        match transform.crop {
            Crop::Pad(padding) if padding > 0 && padding >= shape.height.min(shape.width) => {
                let expected = format!("less than both sides of the {} x {} images", shape.height, shape.width);
                return Err(Error::option("padCrop", padding, expected));
            }
            Crop::Resized(crop) => crop.validate()?,
            _ => {}
        }
        transform.color_jitter.map_or(Ok(()), |jitter| jitter.validate())?;
        transform.policy.map_or(Ok(()), Policy::validate)?;
        transform.erasing.map_or(Ok(()), |erasing| erasing.validate())?;
        if transform.cutout == Some(0) {
            return Err(Error::option("cutout", 0, "a side of at least 1 pixel"));
        }
        let redrawn = transform.recolours() || matches!(transform.crop, Crop::Resized(_));
        if redrawn && !matches!(shape.channels, 1 | 3) {
            let expected = "images of 1 or 3 channels for random parts, colours and policies";
            return Err(Error::option("augment", format!("used on {} channels", shape.channels), expected));
        }
        let white = match &set.store.content {
            Content::Pixels { pixels: Pixels::F32(_), white, .. } => {
                if redrawn {
                    let expected = "a set of bytes: random parts, colours and policies work on 8-bit images";
                    return Err(Error::option("augment", format!("used on the numbers of {}", set.name()), expected));
                }
                *white
            }
            Content::Pixels { white, .. } => *white,
            Content::Encoded { .. } => 255.0,
        };
        let zeros = vec![0.0; shape.channels];
        let scale = |white: f32| match format {
            Format::F32 | Format::Bf16 => transform.normalization.gain_and_bias(white),
            Format::U8 => (vec![255.0 / white; shape.channels], zeros.clone()),
        };
        let (gain, bias) = scale(white);
        let placer = Placer::new(shape, &gain, &bias);
        let (gain, bias) = scale(255.0);
        let mean = match format {
            Format::F32 | Format::Bf16 => zeros,
            Format::U8 => transform.normalization.mean.iter().map(|mean| 255.0 * mean).collect(),
        };
        Ok(Self { transform: transform.clone(), shape, placer, gain, bias, mean })
    }

    /// Writes an image of `set`, `[height, width, channels]`, as it looks in this epoch.
    ///
    /// Errors when an encoded image cannot be read or decoded.
    pub(crate) fn write<T: Sample>(
        &self,
        set: &Dataset,
        showing: Showing,
        out: &mut [T],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let Showing { index, seed, epoch } = showing;
        let mut stream = Stream::new(seed, Purpose::Augment, epoch, index as u64);
        let image = set.image(index)?;
        match &set.store.content {
            Content::Pixels { shape, pixels, white } => {
                let range = range_of(*shape, image);
                match pixels {
                    Pixels::F32(values) => self.placer.write(&values[range], self.placement(&mut stream), out),
                    Pixels::U8(values) => self.write_bytes(&values[range], *white, &mut stream, out, scratch),
                }
            }
            Content::Encoded { images, .. } => {
                self.draw_encoded(&**images, image, set, &mut stream, scratch)?;
                self.finish(&mut stream, out, scratch);
            }
        }
        if let Some(erasing) = self.transform.erasing {
            erasing.apply(out, self.shape, &self.mean, &mut stream);
        }
        if let Some(size) = self.transform.cutout {
            cutout(out, self.shape, size, &self.mean, &mut stream);
        }
        Ok(())
    }

    /// Draws, in this order: row of the crop, column of the crop, flip; only those in use.
    fn placement(&self, stream: &mut Stream) -> Placement {
        let padding = match self.transform.crop {
            Crop::Pad(padding) => padding,
            _ => 0,
        };
        let mut shift = || match padding {
            0 => 0,
            _ => stream.below(2 * padding + 1) as isize - padding as isize,
        };
        let (dy, dx) = (shift(), shift());
        Placement { dy, dx, flip: self.transform.flip && stream.below(2) == 1 }
    }

    /// Bytes of which `white` is white.
    fn write_bytes<T: Sample>(
        &self,
        values: &[u8],
        white: f32,
        stream: &mut Stream,
        out: &mut [T],
        scratch: &mut Scratch,
    ) {
        let resized = match self.transform.crop {
            Crop::Resized(crop) => Some(crop),
            _ => None,
        };
        if resized.is_none() && !self.transform.recolours() {
            return self.placer.write(values, self.placement(stream), out);
        }
        let ImageShape { height, width, channels } = self.shape;
        let Scratch { bytes, workspace: Workspace { planes, resampler }, canvas, .. } = scratch;
        let values = match white {
            255.0 => values,
            white => {
                bytes.clear();
                bytes.extend(values.iter().map(|&value| (f32::from(value) * 255.0 / white).round() as u8));
                bytes
            }
        };
        planes.fill(values, width, channels, Region { top: 0, left: 0, height, width });
        let whole =
            View { vertical: Span::whole(0, height), horizontal: Span::whole(0, width), height, width, channels };
        let view = match resized {
            Some(crop) => {
                let (vertical, horizontal) = crop.draw(height, width, stream);
                View { vertical, horizontal, ..whole }
            }
            None => whole,
        };
        resampler.run(planes, view, canvas);
        self.finish(stream, out, scratch);
    }

    /// Decodes and crops into the canvas.
    fn draw_encoded(
        &self,
        images: &dyn EncodedImages,
        image: usize,
        set: &Dataset,
        stream: &mut Stream,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let Scratch { bytes, workspace, canvas, .. } = scratch;
        images.read(image, bytes)?;
        let undecodable = |message| Error::Image { image: images.name(image), message };
        let picture = Picture::open(bytes).map_err(undecodable)?;
        let (height, width) = picture.size();
        let resized = matches!(self.transform.crop, Crop::Resized(_));
        let (vertical, horizontal) = match self.transform.crop {
            Crop::Resized(crop) => crop.draw(height, width, stream),
            _ => centre(set.frame(), height, width),
        };
        let ImageShape { height, width, channels } = self.shape;
        let view = View { vertical, horizontal, height, width, channels };
        picture.render(view, resized, workspace, canvas).map_err(undecodable)
    }

    /// Moves and mirrors the canvas, changes its colours and writes it.
    fn finish<T: Sample>(&self, stream: &mut Stream, out: &mut [T], scratch: &mut Scratch) {
        let Scratch { canvas, spare, .. } = scratch;
        let Placement { dy, dx, flip } = self.placement(stream);
        canvas.shift(dy, dx, spare);
        if flip {
            canvas.flip();
        }
        let jitter = self.transform.color_jitter.map(|jitter| jitter.draw(stream));
        let policy = self.transform.policy.map(|policy| policy.draw(canvas.height, canvas.width, stream));
        for op in [jitter, policy].into_iter().flatten().flatten() {
            op.apply(canvas, spare);
        }
        canvas.write(&self.gain, &self.bias, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crop::ResizedCrop;
    use crate::dataset::ArrayOptions;
    use crate::erase::RandomErasing;
    use crate::jitter::ColorJitter;
    use crate::normalization::Normalization;

    const SHAPE: ImageShape = ImageShape { height: 5, width: 4, channels: 3 };

    fn set(count: usize) -> Dataset {
        let bytes = (0..count * SHAPE.elements()).map(|i| (i * 37 % 251) as u8);
        let labels = vec![0; count];
        Dataset::from_arrays(Pixels::U8(bytes.collect()), SHAPE, labels, ArrayOptions::default()).unwrap()
    }

    fn writer(change: impl Fn(&mut Transform)) -> Result<Writer> {
        let mut transform = Transform::plain(Normalization { mean: vec![0.5, 0.25, 0.125], std: vec![0.5, 0.25, 2.0] });
        change(&mut transform);
        Writer::new(&transform, Format::F32, &set(3))
    }

    fn shown(writer: &Writer, index: usize, epoch: u64) -> Vec<f32> {
        let mut out = vec![f32::NAN; SHAPE.elements()];
        let showing = Showing { index, seed: 5, epoch };
        writer.write(&set(3), showing, &mut out, &mut Scratch::default()).unwrap();
        out
    }

    #[test]
    fn bytes_are_scaled_by_255_and_written_from_their_image() {
        let out = shown(&writer(|_| ()).unwrap(), 2, 0);
        let pixels = set(3).pixels(2).unwrap();
        for (out, (k, pixel)) in out.iter().zip(pixels.iter().enumerate()) {
            let expected = (pixel - [0.5, 0.25, 0.125][k % 3]) / [0.5, 0.25, 2.0][k % 3];
            assert!((out - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn the_ways_of_moved_and_of_recoloured_bytes_agree() {
        let moved = writer(|t| (t.crop, t.flip) = (Crop::Pad(2), true)).unwrap();
        // A jitter that does nothing sends images the other way.
        let same = writer(|t| {
            (t.crop, t.flip, t.color_jitter) = (Crop::Pad(2), true, Some(ColorJitter::default()));
        })
        .unwrap();
        for epoch in 0..50 {
            let (a, b) = (shown(&moved, 1, epoch), shown(&same, 1, epoch));
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "epoch {epoch}");
        }
    }

    #[test]
    fn placements_are_uniform_and_follow_seed_epoch_and_index() {
        let writer = writer(|t| (t.crop, t.flip) = (Crop::Pad(2), true)).unwrap();
        let place = |seed, epoch, index| {
            let Placement { dy, dx, flip } = writer.placement(&mut Stream::new(seed, Purpose::Augment, epoch, index));
            (dy, dx, flip)
        };
        let mut counts = std::collections::HashMap::new();
        for index in 0..20_000 {
            *counts.entry(place(5, 1, index)).or_insert(0i64) += 1;
        }
        // 5 x 5 crops x 2: 400 each, standard deviation 20.
        assert_eq!(counts.len(), 50);
        assert!(counts.values().all(|c| (c - 400).abs() < 100), "{counts:?}");

        let many = |seed, epoch, shift: u64| -> Vec<_> { (0..20).map(|i| place(seed, epoch, i + shift)).collect() };
        assert_eq!(many(5, 1, 0), many(5, 1, 0));
        for other in [many(6, 1, 0), many(5, 2, 0), many(5, 1, 20)] {
            assert_ne!(other, many(5, 1, 0));
        }
    }

    #[test]
    fn without_augmentation_nothing_moves() {
        let writer = writer(|_| ()).unwrap();
        assert_eq!(shown(&writer, 0, 0), shown(&writer, 0, 7));
    }

    #[test]
    fn wrong_options_are_named() {
        let refuse = |change: &dyn Fn(&mut Transform)| {
            let error = writer(change).err().unwrap();
            assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
            error.to_string()
        };
        let starts = |name: &str, change: &dyn Fn(&mut Transform)| {
            let text = refuse(change);
            assert!(text.starts_with(name), "{text}");
        };
        starts("padCrop", &|t| t.crop = Crop::Pad(4));
        starts("scale", &|t| t.crop = Crop::Resized(ResizedCrop { scale: (0.5, 0.1), ..ResizedCrop::default() }));
        starts("ratio", &|t| t.crop = Crop::Resized(ResizedCrop { ratio: (0.0, 1.0), ..ResizedCrop::default() }));
        starts("colorJitter.hue", &|t| t.color_jitter = Some(ColorJitter { hue: 0.6, ..ColorJitter::default() }));
        starts("policy.magnitude", &|t| t.policy = Some(Policy::RandAugment { operations: 2, magnitude: 31 }));
        starts("erasing.probability", &|t| {
            t.erasing = Some(RandomErasing { probability: 2.0, ..RandomErasing::default() });
        });
        starts("cutout", &|t| t.cutout = Some(0));
        starts("normalization.mean", &|t| t.normalization = Normalization::identity(1));

        let floats = Dataset::from_arrays(Pixels::F32(vec![0.0; 60]), SHAPE, vec![0], ArrayOptions::default()).unwrap();
        let policy = Transform { policy: Some(Policy::TrivialAugment), ..Transform::plain(Normalization::identity(3)) };
        assert_eq!(Writer::new(&policy, Format::F32, &floats).err().unwrap().code(), "ERR_FLATMIN_OPTION");
    }
}
