//! Files damaged at random: whatever the bytes, each reader answers with a set or a coded error, within bounded memory.
//!
//! The seed is printed and new each time; `FLATMIN_DAMAGE_SEED` repeats a run, `FLATMIN_DAMAGE_CASES` makes it longer.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::{Cursor, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use flatmin_data::{
    Dataset, EncodedOptions, Frame, NpzOptions, Result, Split, SvhnSplit, cifar10, image_folder, inspect, mnist, npz,
    svhn, verify, webdataset,
};
use image::{ImageFormat, Rgb, RgbImage};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tempfile::TempDir;

/// Counts what is allocated, for the bound on memory.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(held, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Random(ChaCha8Rng);

impl Random {
    fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u64() % limit.max(1) as u64) as usize
    }

    /// One of the ways in which files go wrong.
    fn damage(&mut self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        match self.below(7) {
            0 => bytes.truncate(self.below(whole.len())),
            1 => bytes.clear(),
            2 => (0..1 + self.below(8)).for_each(|_| {
                let at = self.below(bytes.len());
                bytes[at] ^= 1 << self.below(8);
            }),
            // Sizes and counts become huge.
            3 => {
                let at = self.below(bytes.len().min(400));
                let end = (at + 1 + self.below(8)).min(bytes.len());
                bytes[at..end].fill(if self.below(2) == 0 { 0xFF } else { 0x7F });
            }
            4 => (0..bytes.len().min(64)).for_each(|at| bytes[at] = self.0.next_u32() as u8),
            5 => {
                let at = self.below(bytes.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&whole[self.below(whole.len())..]);
            }
            _ => bytes = b"<html>404: not found</html>".repeat(1 + self.below(40)),
        }
        bytes
    }
}

fn seed() -> u64 {
    let given = std::env::var("FLATMIN_DAMAGE_SEED").ok().and_then(|text| text.parse().ok());
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let seed = given.unwrap_or(clock);
    println!("FLATMIN_DAMAGE_SEED={seed}");
    seed
}

fn cases(default: usize) -> usize {
    std::env::var("FLATMIN_DAMAGE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A new file: some file systems wait for the disk when one is cut to nothing and written again.
fn replace(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

/// A file that is damaged, and the reader that meets it.
struct Target {
    name: &'static str,
    path: PathBuf,
    whole: Vec<u8>,
    read: Box<dyn Fn() -> Result<Option<Dataset>>>,
}

fn target(dir: &Path, name: &'static str, whole: Vec<u8>, read: impl Fn(&Path) -> Result<Dataset> + 'static) -> Target {
    fs::create_dir_all(dir).unwrap();
    let (path, dir) = (dir.join(name), dir.to_path_buf());
    fs::write(&path, &whole).unwrap();
    let read = Box::new(move || read(&dir).map(Some));
    read().unwrap_or_else(|error| panic!("{name} is not right to begin with: {error}"));
    Target { name, path, whole, read }
}

fn targets(root: &Path) -> Vec<Target> {
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28][..], &[9; 2 * 784]].concat();
    let labels = [&[0, 0, 8, 1, 0, 0, 0, 2][..], &[1, 2]].concat();
    let idx = root.join("idx");
    fs::create_dir_all(&idx).unwrap();
    fs::write(idx.join("train-labels-idx1-ubyte"), &labels).unwrap();
    let python = root.join("cifar-10-batches-py");
    fs::create_dir_all(&python).unwrap();
    let names: Vec<u8> = (0..10).flat_map(|_| *b"U\x01x").collect();
    let meta = [&b"\x80\x02}U\x0blabel_names]("[..], &names, b"es."].concat();
    fs::write(python.join("batches.meta"), &meta).unwrap();
    let binary = root.join("cifar-10-batches-bin");
    fs::create_dir_all(&binary).unwrap();
    fs::write(binary.join("batches.meta.txt"), "x\n".repeat(10)).unwrap();
    let members = [("a.jpg", &[7; 900][..]), ("a.cls", b"1"), ("b.png", &[8; 100]), ("b.json", br#"{"label":0}"#)];
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let kinds = |dir: &Path| {
        let [images, labels] = ["floats", "column"].map(str::to_owned);
        npz(dir.join("kinds.npz"), NpzOptions { images, labels, ..NpzOptions::default() })
    };
    vec![
        target(&idx, "train-images-idx3-ubyte.gz", gzip(&images), |dir| mnist(dir, Split::Train)),
        target(&root.join("svhn"), "train_32x32.mat", fixture("svhn.mat"), |dir| svhn(dir, SvhnSplit::Train)),
        target(&root.join("plain"), "test_32x32.mat", fixture("svhn-plain.mat"), |dir| svhn(dir, SvhnSplit::Test)),
        target(root, "colour.npz", fixture("colour.npz"), |dir| npz(dir.join("colour.npz"), NpzOptions::default())),
        target(root, "kinds.npz", fixture("kinds.npz"), kinds),
        target(&python, "test_batch", fixture("cifar-protocol-4.pickle"), |dir| cifar10(dir, Split::Test)),
        target(&binary, "test_batch.bin", [&[3][..], &[50; 3072]].concat(), |dir| cifar10(dir, Split::Test)),
        target(root, "x.tar", tar, |dir| webdataset(vec![dir.join("x.tar")], EncodedOptions::default())),
    ]
}

#[test]
fn damaged_archives_give_a_set_or_a_coded_error() {
    let seed = seed();
    let root = TempDir::new().unwrap();
    let targets = targets(root.path());
    let mut random = Random::new(seed);
    let mut refused = 0;
    let cases = cases(2_000);
    for case in 0..cases {
        let target = &targets[case % targets.len()];
        replace(&target.path, &random.damage(&target.whole));
        match (target.read)() {
            Ok(_) => {}
            Err(error) => {
                refused += 1;
                assert!(error.code().starts_with("ERR_FLATMIN_"));
                assert!(error.to_string().len() < 20_000, "seed {seed}, {}: {error}", target.name);
            }
        }
        replace(&target.path, &target.whole);
    }
    // Flipped pixels are no fault that a reader could see; most of the rest is.
    assert!(refused > cases / 2, "seed {seed}: {refused} of {cases}");
    assert!(PEAK.load(Relaxed) < 1 << 30, "seed {seed}: {} bytes at most", PEAK.load(Relaxed));
}

fn pictures() -> Vec<Vec<u8>> {
    let picture = RgbImage::from_fn(64, 48, |x, y| Rgb([(x * 4) as u8, (y * 5) as u8, (x ^ y) as u8]));
    let encode = |format| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP].map(encode).to_vec()
}

#[test]
fn damaged_images_are_counted_by_name() {
    let seed = seed();
    let root = TempDir::new().unwrap();
    let class = root.path().join("class");
    fs::create_dir(&class).unwrap();
    let (mut random, pictures) = (Random::new(seed), pictures());
    let cases = cases(600);
    for case in 0..cases {
        let bytes = random.damage(&pictures[case % pictures.len()]);
        fs::write(class.join(format!("{case:06}.jpg")), bytes).unwrap();
    }
    fs::write(class.join("sound.jpg"), &pictures[0]).unwrap();
    let frame = Frame { height: 16, width: 16, resize: 16 };
    let set = image_folder(root.path(), EncodedOptions { frame, ..EncodedOptions::default() }).unwrap();
    let mut seen = 0;
    let found = inspect(&set, 2, &mut |progress| {
        seen = progress.done;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, cases + 1, "seed {seed}");
    let sound: usize = found.formats.values().sum();
    assert_eq!(sound + found.broken_count, cases + 1, "seed {seed}");
    assert!(sound > 0 && found.broken_count > cases / 4, "seed {seed}: {sound} sound");
    assert!(found.broken.iter().all(|message| message.contains(class.to_str().unwrap())), "seed {seed}");
    assert_eq!(found.broken.len(), found.broken_count.min(1000));
    println!("{} of {} images are broken, {} bytes held at most", found.broken_count, cases + 1, PEAK.load(Relaxed));
}

#[test]
fn damaged_manifests_are_refused_or_their_shards_are_missed() {
    let seed = seed();
    let dir = TempDir::new().unwrap();
    let whole =
        br#"{"format": "flatmin-shards-1", "name": "x", "source": "", "options": {}, "images": 1, "totalShards": 1,
        "shards": [{"file": "../../etc/passwd", "samples": 1, "bytes": 1, "sha256": ""}], "leftOut": []}"#;
    let mut random = Random::new(seed);
    for _ in 0..cases(200) {
        replace(&dir.path().join("shards.json"), &random.damage(whole));
        // A shard that is not there is a fault that verification counts; a manifest that is none is an error.
        match verify(dir.path(), 1, &mut |_| ControlFlow::Continue(())) {
            Ok(found) => assert!(found.fault_count > 0, "seed {seed}"),
            Err(error) => assert_eq!(error.code(), "ERR_FLATMIN_FORMAT", "seed {seed}"),
        }
    }
}
