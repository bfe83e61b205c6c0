//! Packs a set of image files into WebDataset shards: `.tar` files of equal numbers of samples in one random order, which
//! disks and networks read in one go. Python's `webdataset` and `tarfile` read them too.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Arc;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageFormat, ImageReader};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::atomic::{self, NewFile, cannot_write};
use super::manifest::{Manifest, Shard};
use super::{Messages, Watch, advance, decode};
use crate::dataset::{Dataset, ImageShape};
use crate::encoded::BadImages;
use crate::error::{Error, Result};
use crate::ordered::Ordered;
use crate::random::{Purpose, Stream};
use crate::sources::{CLASS_FILE, IndexFile, index_path, scan};

/// Images that wait for their turn in a shard, for each thread.
const AHEAD: usize = 4;
/// Characters of the original name that a sample keeps.
const STEM: usize = 60;

/// How a set is packed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PackOptions {
    /// Default 1000.
    pub samples_per_shard: usize,
    /// Length that the shorter side of larger images is scaled to, as JPEG; others are copied byte by byte. Default: none.
    pub resize: Option<usize>,
    /// Quality of images that are scaled, 1 to 100. Default 90.
    pub quality: u8,
    /// A random order fixed by `seed`, so that each shard holds all kinds of classes. Default true.
    pub shuffle: bool,
    pub seed: u64,
    /// Names of the shards: `prefix-000000.tar`. Default `"shard"`.
    pub prefix: String,
    /// What to do with an image that cannot be decoded: end with an error, or leave it out. Default: error.
    pub bad_images: BadImages,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self {
            samples_per_shard: 1000,
            resize: None,
            quality: 90,
            shuffle: true,
            seed: 0,
            prefix: "shard".to_owned(),
            bad_images: BadImages::Error,
        }
    }
}

impl PackOptions {
    fn validate(&self) -> Result<()> {
        if self.samples_per_shard == 0 {
            return Err(Error::option("samplesPerShard", 0, "at least 1"));
        }
        if self.resize.is_some_and(|side| !(1..=1 << 14).contains(&side)) {
            return Err(Error::option("resize", self.resize.unwrap_or_default(), "1 to 16384 pixels"));
        }
        if !(1..=100).contains(&self.quality) {
            return Err(Error::option("quality", self.quality, "1 to 100"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if self.prefix.is_empty() || !self.prefix.chars().all(plain) {
            return Err(Error::option("prefix", &self.prefix, "letters, digits, '-' and '_'"));
        }
        if self.bad_images == BadImages::Replace {
            return Err(Error::option("badImages", "replace", "'error' or 'skip'"));
        }
        Ok(())
    }
}

/// Packs `set` into `dir`, with `shards.json` (sizes and SHA-256 sums), `classes.txt` and an index of each shard beside the
/// shards. A pack that was
/// interrupted goes on after its last finished shard; one that is complete is left as it is.
///
/// Errors: `ERR_FLATMIN_OPTION` for wrong options, sets in memory and folders that hold another pack,
/// `ERR_FLATMIN_FORMAT` for an image that cannot be decoded, `ERR_FLATMIN_PATH` when something cannot be read or written.
pub fn pack(set: &Dataset, dir: &Path, options: PackOptions, threads: usize, watch: Watch<'_>) -> Result<Manifest> {
    options.validate()?;
    set.read_encoded(0, &mut Vec::new()).or_else(|error| if is_option(&error) { Err(error) } else { Ok(()) })?;
    fs::create_dir_all(dir).map_err(|source| cannot_write(dir, source))?;
    let new = Manifest::new(set.name(), fingerprint(set)?, options, set.len());
    let mut manifest = Manifest::read(dir)?.map_or_else(|| Ok(new.clone()), |old| resume(old, &new, dir))?;
    atomic::sweep(dir).map_err(|source| cannot_write(dir, source))?;
    let classes: String = set.class_names().iter().map(|name| format!("{}\n", name.replace('\n', " "))).collect();
    atomic::write(&dir.join(CLASS_FILE), classes.as_bytes())?;

    let first = (manifest.shards.len() * manifest.options.samples_per_shard).min(set.len());
    let order = order(set, &manifest.options);
    let (shared, options) = (set.clone(), manifest.options.clone());
    let make = move |position: usize| Sample::read(&shared, order[position] as usize, &options);
    let mut samples = Ordered::shared(first..set.len(), threads.max(1), threads.max(1) * AHEAD, make)?;
    for number in manifest.shards.len()..manifest.total_shards {
        let from = number * manifest.options.samples_per_shard;
        let positions = from..(from + manifest.options.samples_per_shard).min(set.len());
        let mut left_out = Messages::default();
        let mut writer = ShardWriter::create(dir, &manifest.options.prefix, number)?;
        for position in positions {
            match samples.receive()? {
                Ok(sample) => writer.add(position, &sample)?,
                Err(error) if manifest.options.bad_images == BadImages::Skip => left_out.add(error.to_string()),
                Err(error) => return Err(error),
            }
            advance(watch, position + 1, set.len())?;
        }
        manifest.shards.push(writer.finish()?);
        manifest.left_out.extend(left_out.kept);
        manifest.write(dir)?;
    }
    Ok(manifest)
}

fn is_option(error: &Error) -> bool {
    matches!(error, Error::Option { .. })
}

/// What identifies the images of a set: their names and labels, in its order.
fn fingerprint(set: &Dataset) -> Result<String> {
    let mut sum = Sha256::new();
    for (index, label) in set.labels().iter().enumerate() {
        sum.update(set.image_name(index)?.unwrap_or_default());
        sum.update([0]);
        sum.update(label.to_le_bytes());
    }
    Ok(atomic::hex(&sum.finalize()))
}

/// The manifest to go on from, when it belongs to the same images and options and its shards are there.
fn resume(old: Manifest, new: &Manifest, dir: &Path) -> Result<Manifest> {
    if !old.continues(new) {
        let expected = "an empty folder, or one with the same images packed with the same options";
        return Err(Error::option("out", format!("{}, which holds another pack", dir.display()), expected));
    }
    for shard in &old.shards {
        let path = dir.join(&shard.file);
        let size = fs::metadata(&path).map_err(|source| Error::Path { path: path.clone(), source })?.len();
        if size != shard.bytes {
            return Err(Error::Format {
                file: path.display().to_string(),
                found: format!("{size} bytes"),
                expected: shard.bytes.to_string(),
                fix: "Pack again into an empty folder".to_owned(),
            });
        }
    }
    Ok(old)
}

fn order(set: &Dataset, options: &PackOptions) -> Arc<[u32]> {
    match options.shuffle {
        true => Stream::new(options.seed, Purpose::Order, 0, 0).permutation(set.len()).into(),
        false => (0..set.len() as u32).collect(),
    }
}

/// One image on its way into a shard.
struct Sample {
    bytes: Vec<u8>,
    extension: &'static str,
    label: u32,
    stem: String,
}

impl Sample {
    /// Reads an image and makes sure that it can be decoded.
    fn read(set: &Dataset, index: usize, options: &PackOptions) -> Result<Self> {
        let name = set.image_name(index)?.unwrap_or_default();
        let mut bytes = Vec::new();
        set.read_encoded(index, &mut bytes)?;
        let image = decode(&bytes, &name)?;
        let (height, width) = (image.height(), image.width());
        let mut extension = extension(&bytes);
        if let Some(side) = options.resize.filter(|&side| side < height.min(width)) {
            let shape =
                ImageShape { height: scaled(height, side, width), width: scaled(width, side, height), channels: 3 };
            bytes = jpeg(&image.resize(shape)?, shape, options.quality)
                .map_err(|error| Error::Image { image: name.clone(), message: error.to_string() })?;
            extension = "jpg";
        }
        Ok(Self { bytes, extension, label: set.label(index)?, stem: stem(&name) })
    }
}

/// A side after the shorter one of it and `other` became `side`.
fn scaled(this: usize, side: usize, other: usize) -> usize {
    let shorter = this.min(other);
    (this * side + shorter / 2) / shorter
}

fn jpeg(pixels: &[f32], shape: ImageShape, quality: u8) -> image::ImageResult<Vec<u8>> {
    let bytes: Vec<u8> = pixels.iter().map(|value| (value * 255.0).round() as u8).collect();
    let mut out = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut out, quality);
    encoder.write_image(&bytes, shape.width as u32, shape.height as u32, ExtendedColorType::Rgb8)?;
    Ok(out)
}

/// The ending that tells what the bytes are; they were decoded, so they are one of the three.
fn extension(bytes: &[u8]) -> &'static str {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    match reader.ok().and_then(|reader| reader.format()) {
        Some(ImageFormat::Png) => "png",
        Some(ImageFormat::WebP) => "webp",
        _ => "jpg",
    }
}

/// The file's own name without what a WebDataset key must not have.
fn stem(name: &str) -> String {
    let base = name.rsplit('/').next().unwrap_or(name);
    let base = base.split('.').next().unwrap_or(base);
    base.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(STEM).collect()
}

struct ShardWriter {
    archive: tar::Builder<NewFile>,
    file: String,
    path: std::path::PathBuf,
    samples: usize,
}

impl ShardWriter {
    fn create(dir: &Path, prefix: &str, number: usize) -> Result<Self> {
        let file = format!("{prefix}-{number:06}.tar");
        let path = dir.join(&file);
        let new = NewFile::create(dir).map_err(|source| cannot_write(&path, source))?;
        Ok(Self { archive: tar::Builder::new(new), file, path, samples: 0 })
    }

    fn add(&mut self, position: usize, sample: &Sample) -> Result<()> {
        let key = format!("{position:08}-{}", sample.stem);
        let label = sample.label.to_string();
        for (extension, bytes) in [(sample.extension, &sample.bytes[..]), ("cls", label.as_bytes())] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            let added = self.archive.append_data(&mut header, format!("{key}.{extension}"), bytes);
            added.map_err(|source| cannot_write(&self.path, source))?;
        }
        self.samples += 1;
        Ok(())
    }

    fn finish(self) -> Result<Shard> {
        let Self { archive, file, path, samples } = self;
        let kept = archive.into_inner().and_then(|mut new| {
            new.flush()?;
            new.keep(&path)
        });
        let (bytes, sha256) = kept.map_err(|source| cannot_write(&path, source))?;
        let index = IndexFile { bytes, samples: scan(&path)? };
        let text = serde_json::to_vec(&index);
        let text = text.map_err(|error| cannot_write(&path, std::io::Error::other(error)))?;
        atomic::write(&index_path(&path), &text)?;
        Ok(Shard { file, samples, bytes, sha256 })
    }
}
