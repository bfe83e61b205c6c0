//! Looks at every image of a set: what sizes and formats there are, which do not decode, and what normalises them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Messages, Watch, advance, decode};
use crate::dataset::Dataset;
use crate::describe::Description;
use crate::error::Result;
use crate::normalization::Normalization;
use crate::ordered::Ordered;

/// The least, middle and greatest of some lengths, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spread {
    pub min: u32,
    pub median: u32,
    pub max: u32,
}

/// What looking at all images found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    #[serde(flatten)]
    pub description: Description,
    /// Bytes of all files; 0 for images in memory.
    pub bytes: u64,
    /// Files of each format, `"jpeg"`, `"png"` or `"webp"`.
    pub formats: BTreeMap<String, usize>,
    /// Widths of the files, upright; `None` for images in memory, which have one size.
    pub width: Option<Spread>,
    pub height: Option<Spread>,
    /// Mean and deviation of all pixels as evaluation sees them (resized and cropped), in `[0, 1]`.
    pub measured: Normalization,
    /// Images that cannot be read or decoded.
    pub broken_count: usize,
    /// What is wrong with them, by name; the first 1,000.
    pub broken: Vec<String>,
}

/// Decodes every image once, on `threads` threads. Broken images are counted and no error.
pub fn inspect(set: &Dataset, threads: usize, watch: Watch<'_>) -> Result<Inspection> {
    let total = set.len();
    let shared = set.clone();
    let make = move |index: usize| View::of(&shared, index);
    let mut views = Ordered::shared(0..total, threads.max(1), threads.max(1) * 4, make)?;
    let channels = set.shape().channels;
    let (mut bytes, mut formats, mut broken) = (0, BTreeMap::new(), Messages::default());
    let (mut widths, mut heights, mut sums) = (Vec::new(), Vec::new(), vec![Sums::default(); channels]);
    for index in 0..total {
        match views.receive()? {
            Ok(view) => {
                if let Some(file) = view.file {
                    bytes += file.bytes;
                    *formats.entry(file.format).or_default() += 1;
                    widths.push(file.width);
                    heights.push(file.height);
                }
                sums.iter_mut().zip(view.sums).for_each(|(all, image)| all.add(image));
            }
            Err(error) => broken.add(error.to_string()),
        }
        advance(watch, index + 1, total)?;
    }
    Ok(Inspection {
        description: set.describe(),
        bytes,
        formats,
        width: spread(widths),
        height: spread(heights),
        measured: Normalization {
            mean: sums.iter().map(|sum| sum.mean() as f32).collect(),
            std: sums.iter().map(|sum| sum.std() as f32).collect(),
        },
        broken_count: broken.count,
        broken: broken.kept,
    })
}

fn spread(mut lengths: Vec<u32>) -> Option<Spread> {
    lengths.sort_unstable();
    let median = *lengths.get(lengths.len() / 2)?;
    Some(Spread { min: lengths[0], median, max: lengths[lengths.len() - 1] })
}

/// What one image adds.
struct View {
    file: Option<FileView>,
    sums: Vec<Sums>,
}

struct FileView {
    bytes: u64,
    format: String,
    width: u32,
    height: u32,
}

impl View {
    fn of(set: &Dataset, index: usize) -> Result<Self> {
        let file = set.image_name(index)?.map(|name| FileView::of(set, index, &name)).transpose()?;
        let pixels = set.pixels(index)?;
        let channels = set.shape().channels;
        let mut sums = vec![Sums::default(); channels];
        for pixel in pixels.chunks_exact(channels) {
            sums.iter_mut().zip(pixel).for_each(|(sum, &value)| sum.push(f64::from(value)));
        }
        Ok(Self { file, sums })
    }
}

impl FileView {
    /// Decodes all of the image, also what evaluation does not look at.
    fn of(set: &Dataset, index: usize, name: &str) -> Result<Self> {
        let mut bytes = Vec::new();
        set.read_encoded(index, &mut bytes)?;
        let image = decode(&bytes, name)?;
        let format = image::guess_format(&bytes).map_or_else(|_| "unknown".to_owned(), |format| format!("{format:?}"));
        let [width, height] = [image.width(), image.height()].map(|side| side as u32);
        Ok(Self { bytes: bytes.len() as u64, format: format.to_lowercase(), width, height })
    }
}

/// Running sums of one channel.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn push(&mut self, value: f64) {
        self.add(Self { count: 1.0, sum: value, squares: value * value });
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    fn mean(self) -> f64 {
        self.sum / self.count.max(1.0)
    }

    /// A constant channel gets 1, as in [`Normalization::measure`].
    fn std(self) -> f64 {
        let variance = self.squares / self.count.max(1.0) - self.mean().powi(2);
        if variance > 0.0 { variance.sqrt() } else { 1.0 }
    }
}
