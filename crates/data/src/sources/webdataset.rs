//! WebDataset shards: `.tar` files whose members `key.jpg` and `key.cls` (or `key.json`) are one sample. They are indexed
//! by their headers once, and then read by position, so any order costs the same as in a folder.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use tar::Archive;

use crate::dataset::Dataset;
use crate::encoded::{EncodedImages, EncodedOptions};
use crate::error::{Error, Result};
use crate::formats::{Fault, Parsed};
use crate::ordered::Ordered;

const IMAGES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// Keys of a `.json` member under which labels are looked for.
const JSON_LABELS: [&str; 3] = ["label", "cls", "class"];
const MAX_LABEL_FILE: u64 = 1 << 20;
/// One name a line, beside the shards.
pub(crate) const CLASS_FILE: &str = "classes.txt";
const FIX: &str = "Pack or download it again, or leave it out";

/// Where one image lies.
#[derive(Debug)]
struct Sample {
    shard: u32,
    bytes: u32,
    offset: u64,
    /// Name of the image's member.
    member: Box<str>,
}

#[derive(Debug)]
struct Shards {
    paths: Arc<[PathBuf]>,
    samples: Vec<Sample>,
}

impl EncodedImages for Shards {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn name(&self, index: usize) -> String {
        let Sample { shard, member, .. } = &self.samples[index];
        format!("{}/{member}", self.paths[*shard as usize].display())
    }

    fn read(&self, index: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let Sample { shard, bytes: length, offset, .. } = self.samples[index];
        let path = &self.paths[shard as usize];
        bytes.clear();
        let read = File::open(path).and_then(|mut file| {
            file.seek(std::io::SeekFrom::Start(offset))?;
            file.take(u64::from(length)).read_to_end(bytes)
        });
        match read {
            Ok(count) if count == length as usize => Ok(()),
            Ok(_) => Err(Fault::from(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)).at(path, FIX)),
            Err(source) => Err(Error::Path { path: path.clone(), source }),
        }
    }
}

/// A set from shards, in their order. Class names come from `classes.txt` beside the first shard where there is one.
///
/// Errors: `ERR_FLATMIN_PATH` when a shard cannot be read, `ERR_FLATMIN_FORMAT` when one is damaged or has a sample
/// without a label, `ERR_FLATMIN_DATA` when there are no images.
pub fn webdataset(paths: Vec<PathBuf>, options: EncodedOptions) -> Result<Dataset> {
    let paths: Arc<[PathBuf]> = paths.into();
    let (mut samples, mut labels) = (Vec::new(), Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let shared = Arc::clone(&paths);
    let make = move |shard: usize| index_file(&shared[shard]);
    let mut indexes = Ordered::shared(0..paths.len(), threads, threads, make)?;
    for shard in 0..paths.len() {
        for Indexed { offset, bytes, label, member } in indexes.receive()?? {
            labels.push(label);
            samples.push(Sample { shard: shard as u32, bytes, offset, member });
        }
    }
    if samples.is_empty() {
        let found =
            paths.first().map_or_else(|| "there are no shards".to_owned(), |path| format!("{} ...", path.display()));
        return Err(Error::Data(format!(
            "no image in the shards ({found}); expected members called key.jpg and key.cls"
        )));
    }
    let beside = paths.first().and_then(|path| path.parent()).map(|folder| folder.join(CLASS_FILE));
    let class_names = match (options.class_names, beside.filter(|file| file.exists())) {
        (None, Some(file)) => Some(read_class_names(&file)?),
        (given, _) => given,
    };
    let name = if options.name.is_empty() { "webdataset".to_owned() } else { options.name };
    Dataset::from_encoded(Shards { paths, samples }, labels, EncodedOptions { name, class_names, ..options })
}

fn index_file(path: &Path) -> Result<Vec<Indexed>> {
    let failed = |source| Error::Path { path: path.to_path_buf(), source };
    // Before it is opened: opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Fault::new("no plain file", "a .tar file").at(path, FIX));
    }
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    index(file, length).map_err(|fault| fault.at(path, FIX))
}

fn read_class_names(file: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file).map_err(|source| Error::Path { path: file.to_path_buf(), source })?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// A sample as the index of its shard has it.
#[derive(Debug, PartialEq)]
struct Indexed {
    offset: u64,
    bytes: u32,
    label: u32,
    member: Box<str>,
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

/// Paths of shards, sorted: a file, a folder of `.tar` files, or a pattern with `*`, `?`, `[...]`, `{a,b}` and
/// WebDataset's `{000000..000146}`.
///
/// Errors: `ERR_FLATMIN_OPTION` when the pattern is malformed, `ERR_FLATMIN_PATH` when nothing is there.
pub fn shard_paths(pattern: &str) -> Result<Vec<PathBuf>> {
    let pattern = match Path::new(pattern).is_dir() {
        true => format!("{}/*.tar", glob::Pattern::escape(pattern.trim_end_matches('/'))),
        false => pattern.to_owned(),
    };
    let mut paths = Vec::new();
    for plain in expand_braces(&pattern)? {
        // A name that exists is taken as it is, whatever characters it has.
        if Path::new(&plain).is_file() {
            paths.push(PathBuf::from(plain));
            continue;
        }
        let found =
            glob::glob(&plain).map_err(|error| Error::option("shards", &plain, format!("a pattern: {error}")))?;
        let before = paths.len();
        paths.extend(found.filter_map(std::result::Result::ok));
        if paths.len() == before {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no such shard");
            return Err(Error::Path { path: plain.into(), source });
        }
    }
    Ok(paths)
}

/// `a{1,2}b` is `a1b` and `a2b`; `{08..10}` counts, as wide as its first number.
fn expand_braces(pattern: &str) -> Result<Vec<String>> {
    const MOST: u64 = 1_000_000;
    let Some((before, (inner, after))) =
        pattern.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return Ok(vec![pattern.to_owned()]);
    };
    let number = |text: &str| text.parse::<u64>().ok();
    let choices: Vec<String> = match inner.split_once("..") {
        Some((first, last)) => {
            let range = number(first).zip(number(last)).filter(|(first, last)| last.saturating_sub(*first) < MOST);
            let (from, to) = range.ok_or_else(|| Error::option("shards", pattern, "two numbers, as in {000..146}"))?;
            (from..=to).map(|number| format!("{number:0width$}", width = first.len())).collect()
        }
        None => inner.split(',').map(str::to_owned).collect(),
    };
    let rest = expand_braces(after)?;
    if choices.len() as u64 * rest.len() as u64 > MOST {
        return Err(Error::option("shards", pattern, format!("at most {MOST} shards")));
    }
    Ok(choices.iter().flat_map(|choice| rest.iter().map(move |end| format!("{before}{choice}{end}"))).collect())
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
    fn braces_count_and_choose() {
        assert_eq!(expand_braces("x-{08..10}.tar").unwrap(), ["x-08.tar", "x-09.tar", "x-10.tar"]);
        assert_eq!(expand_braces("{a,b}{1..2}").unwrap(), ["a1", "a2", "b1", "b2"]);
        assert_eq!(expand_braces("plain}{.tar").unwrap(), ["plain}{.tar"]);
        for bad in ["{1..x}", "{0..99999999}", "{0..9999}{0..9999}"] {
            assert_eq!(expand_braces(bad).unwrap_err().code(), "ERR_FLATMIN_OPTION", "{bad}");
        }
    }
}
