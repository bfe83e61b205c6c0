//! Where the samples of a tar shard lie. The shard's headers tell; a file beside it, which packing writes, tells it at once,
//! without a read for every image.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tar::Archive;

use super::webdataset::FIX;
use crate::error::{Error, Result};
use crate::formats::{Fault, Parsed};

const IMAGES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// Keys of a `.json` member under which labels are looked for.
const JSON_LABELS: [&str; 3] = ["label", "cls", "class"];
const MAX_LABEL_FILE: u64 = 1 << 20;

/// The samples of a shard, from the file beside it when that belongs to it, else from its headers.
pub(crate) fn samples(path: &Path) -> Result<Vec<Indexed>> {
    let length = length(path)?;
    read_index(path, length).map_or_else(|| scan(path), Ok)
}

/// The samples of a shard from its headers.
pub(crate) fn scan(path: &Path) -> Result<Vec<Indexed>> {
    let length = length(path)?;
    let file = File::open(path).map_err(|source| Error::Path { path: path.to_path_buf(), source })?;
    index(file, length).map_err(|fault| fault.at(path, FIX))
}

/// What lies beside a shard: `shard-000000.tar.json`.
pub(crate) fn index_path(shard: &Path) -> PathBuf {
    let mut path = shard.as_os_str().to_owned();
    path.push(".json");
    path.into()
}

/// Contents of the file beside a shard.
#[derive(Serialize, Deserialize)]
pub(crate) struct IndexFile {
    /// Size of the shard that it belongs to.
    pub(crate) bytes: u64,
    pub(crate) samples: Vec<Indexed>,
}

/// `None` when there is no index, or one that does not fit the shard.
fn read_index(shard: &Path, length: u64) -> Option<Vec<Indexed>> {
    let text = fs::read(index_path(shard)).ok()?;
    let IndexFile { bytes, samples } = serde_json::from_slice(&text).ok()?;
    let inside = |sample: &Indexed| sample.offset.checked_add(u64::from(sample.bytes)).is_some_and(|end| end <= length);
    (bytes == length && samples.iter().all(inside)).then_some(samples)
}

fn length(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path).map_err(|source| Error::Path { path: path.to_path_buf(), source })?;
    match metadata.is_file() {
        true => Ok(metadata.len()),
        // Opening a pipe would wait for a writer.
        false => Err(Fault::new("no plain file", "a .tar file").at(path, FIX)),
    }
}

/// A sample as the index of its shard has it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Indexed {
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
    pub(crate) label: u32,
    /// Name of the image's member.
    pub(crate) member: Box<str>,
}

/// Members that share a key and follow each other.
#[derive(Default)]
struct Group {
    key: String,
    image: Option<(u64, u32, Box<str>)>,
    label: Option<u32>,
}

impl Group {
    /// A sample; groups without an image are passed over.
    fn finish(self) -> Parsed<Option<Indexed>> {
        let Self { key, image, label } = self;
        let Some((offset, bytes, member)) = image else { return Ok(None) };
        match label {
            Some(label) => Ok(Some(Indexed { offset, bytes, label, member })),
            None => {
                let expected = format!("{key}.cls, or {key}.json with a whole number called label, cls or class");
                Err(Fault::new(format!("{member} has no label"), expected))
            }
        }
    }
}

/// The samples of one shard of `length` bytes.
fn index(shard: impl Read + Seek, length: u64) -> Parsed<Vec<Indexed>> {
    let mut archive = Archive::new(shard);
    let mut samples = Vec::new();
    let mut group = Group::default();
    for entry in archive.entries_with_seek()? {
        let mut entry = entry?;
        let (offset, size) = (entry.raw_file_position(), entry.size());
        let member = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if offset.checked_add(size).is_none_or(|end| end > length) {
            return Err(Fault::new(format!("it ends within {member}"), format!("{size} bytes there")));
        }
        let Some((key, kind)) = split_name(&member).filter(|_| entry.header().entry_type().is_file()) else { continue };
        if key != group.key {
            samples.extend(std::mem::take(&mut group).finish()?);
            group.key = key.to_owned();
        }
        match kind.to_ascii_lowercase().as_str() {
            "cls" => group.label = Some(read_cls(&mut entry, &member)?),
            "json" => group.label = group.label.or(read_json(&mut entry)?),
            kind if IMAGES.contains(&kind) && group.image.is_none() => {
                let bytes = u32::try_from(size);
                let bytes = bytes.map_err(|_| Fault::new(format!("{member} of {size} bytes"), "less than 4 GiB"))?;
                group.image = Some((offset, bytes, member.into()));
            }
            _ => {}
        }
    }
    samples.extend(group.finish()?);
    Ok(samples)
}

/// Key and kind of a member: the name is cut at the first dot after its last slash.
fn split_name(member: &str) -> Option<(&str, &str)> {
    let base = member.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + member[base..].find('.')?;
    (dot > base).then(|| (&member[..dot], &member[dot + 1..]))
}

fn read_cls(entry: &mut impl Read, member: &str) -> Parsed<u32> {
    let mut text = Vec::new();
    entry.take(MAX_LABEL_FILE).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let label = text.trim().parse();
    label.map_err(|_| Fault::new(format!("{member} reads {:.40?}", text.trim()), "a class number from 0 on"))
}

fn read_json(entry: &mut impl Read) -> Parsed<Option<u32>> {
    let mut text = Vec::new();
    entry.take(MAX_LABEL_FILE).read_to_end(&mut text)?;
    let value: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
    let labels = value.iter().flat_map(|value| JSON_LABELS.iter().filter_map(|key| value.get(key)?.as_u64()));
    Ok(labels.into_iter().find_map(|label| u32::try_from(label).ok()))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn shard(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn indexed(bytes: &[u8]) -> Parsed<Vec<Indexed>> {
        index(Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn members_with_one_key_are_a_sample_and_its_bytes_lie_where_the_index_says() {
        let long = format!("{}/x.jpg", "deep".repeat(40));
        let bytes = shard(&[
            ("a/one.jpg", b"first"),
            ("a/one.cls", b"3\n"),
            ("notes.txt", b"no sample"),
            ("two.seg.png", b"not the image"),
            ("two.json", br#"{"label": 7, "author": "x"}"#),
            ("two.PNG", b"second"),
            (&long, b"third"),
            (&long.replace("jpg", "cls"), b"0"),
        ]);
        let samples = indexed(&bytes).unwrap();
        let seen: Vec<(&[u8], u32)> =
            samples.iter().map(|s| (&bytes[s.offset as usize..][..s.bytes as usize], s.label)).collect();
        assert_eq!(seen, [(&b"first"[..], 3), (b"second", 7), (b"third", 0)]);
        assert_eq!(&*samples[2].member, long);
    }

    #[test]
    fn what_is_missing_or_cut_off_is_named() {
        let message = |bytes: &[u8]| format!("{:?}", indexed(bytes).unwrap_err());
        assert!(message(&shard(&[("a.jpg", b"x"), ("b.cls", b"1")])).contains("a.jpg has no label"));
        assert!(message(&shard(&[("a.jpg", b"x"), ("a.cls", b"-1")])).contains("a.cls"));
        let whole = shard(&[("a.cls", b"1"), ("a.jpg", &[7; 2000])]);
        assert!(message(&whole[..2000]).contains("a.jpg"));
        assert!(indexed(&[b'x'; 1024]).is_err());
        assert_eq!(indexed(&[]).unwrap(), []);
    }

    #[test]
    fn the_file_beside_a_shard_is_used_as_long_as_it_fits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar");
        fs::write(&path, shard(&[("a.jpg", b"first"), ("a.cls", b"3")])).unwrap();
        let scanned = scan(&path).unwrap();
        let bytes = fs::metadata(&path).unwrap().len();
        let told = |bytes: u64, offset: u64| {
            let samples = vec![Indexed { offset, bytes: 5, label: 7, member: "told".into() }];
            fs::write(index_path(&path), serde_json::to_vec(&IndexFile { bytes, samples }).unwrap()).unwrap();
            samples_of(&path)
        };
        assert_eq!(samples_of(&path), scanned);
        assert_eq!(told(bytes, 512)[0].label, 7);
        assert_eq!(told(bytes + 512, 512), scanned);
        assert_eq!(told(bytes, bytes - 4), scanned);
        fs::write(index_path(&path), "{").unwrap();
        assert_eq!(samples_of(&path), scanned);
    }

    fn samples_of(path: &Path) -> Vec<Indexed> {
        samples(path).unwrap()
    }
}
