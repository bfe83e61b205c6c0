//! A contact sheet: images of a set as training sees them, augmented, in one PNG.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use serde::Serialize;

use super::atomic;
use crate::dataset::{Dataset, ImageShape};
use crate::error::{Error, Result};
use crate::loader::{Loader, LoaderOptions};
use crate::sample::{Format, Images};
use crate::transform::Transform;

/// Pixels between two images.
const GAP: usize = 2;
/// Small images are enlarged, a whole number of times, until they are about this wide.
const TILE: usize = 96;
const MOST: usize = 64;
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);

/// Which images a sheet shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContactSheet {
    /// 1 to 64.
    pub rows: usize,
    /// 1 to 64.
    pub columns: usize,
    /// Fixes which images are chosen, and their augmentation.
    pub seed: u64,
    /// The same images look different in each epoch.
    pub epoch: u64,
}

/// What a sheet shows, row by row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    pub rows: usize,
    pub columns: usize,
    /// Class of each image.
    pub labels: Vec<i64>,
}

/// Writes the first batch of a shuffled epoch of `set` as PNG to `path`.
///
/// Errors: `ERR_FLATMIN_OPTION` for wrong options, `ERR_FLATMIN_SHAPE` for images that are neither grey nor RGB,
/// `ERR_FLATMIN_PATH` when `path` cannot be written, and those of the images.
pub fn contact_sheet(set: &Dataset, transform: Transform, sheet: ContactSheet, path: &Path) -> Result<Shown> {
    for (option, side) in [("rows", sheet.rows), ("columns", sheet.columns)] {
        if !(1..=MOST).contains(&side) {
            return Err(Error::option(option, side, format!("1 to {MOST}")));
        }
    }
    let shape = set.shape();
    if !matches!(shape.channels, 1 | 3) {
        let found = format!("{} channels", shape.channels);
        return Err(Error::Shape { what: "images of a preview", found, expected: "1 or 3 channels".to_owned() });
    }
    let batch_size = (sheet.rows * sheet.columns).min(set.len());
    let options = LoaderOptions { batch_size, shuffle: true, seed: sheet.seed, ..LoaderOptions::new(transform) };
    let loader = Loader::new(set.clone(), LoaderOptions { threads: 0, format: Format::U8, ..options })?;
    let batch = loader.epoch(sheet.epoch, 0).next().ok_or(Error::Worker(0))??;
    let Images::U8(pixels) = &batch.images else { return Err(Error::Worker(0)) };
    let picture = draw(pixels, shape, sheet.columns);
    let mut png = Cursor::new(Vec::new());
    let encoded = picture.write_to(&mut png, ImageFormat::Png);
    encoded.map_err(|error| atomic::cannot_write(path, std::io::Error::other(error)))?;
    atomic::write(path, png.get_ref())?;
    let rows = batch.count.div_ceil(sheet.columns);
    Ok(Shown { rows, columns: sheet.columns, labels: batch.labels })
}

fn draw(pixels: &[u8], shape: ImageShape, columns: usize) -> RgbImage {
    let zoom = (TILE / shape.width.max(shape.height)).max(1);
    let (height, width) = (shape.height * zoom + GAP, shape.width * zoom + GAP);
    let rows = (pixels.len() / shape.elements()).div_ceil(columns);
    let size = [columns * width + GAP, rows * height + GAP].map(|side| side as u32);
    let mut picture = RgbImage::from_pixel(size[0], size[1], PAPER);
    for (number, image) in pixels.chunks_exact(shape.elements()).enumerate() {
        let (top, left) = (number / columns * height + GAP, number % columns * width + GAP);
        for y in 0..height - GAP {
            for x in 0..width - GAP {
                let at = (y / zoom * shape.width + x / zoom) * shape.channels;
                let value = |channel: usize| image[at + channel.min(shape.channels - 1)];
                picture.put_pixel((left + x) as u32, (top + y) as u32, Rgb([0, 1, 2].map(value)));
            }
        }
    }
    picture
}
