//! The Python version of CIFAR: each file is the pickle of a dict with an array of bytes, `[images, 3072]`, and lists.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::cifar::{Layout, PIXELS, interleave};
use crate::formats::{Fault, Parsed, Pickle};

fn open(path: &Path) -> Parsed<Pickle> {
    Pickle::read(&mut BufReader::new(File::open(path)?))
}

pub(crate) fn read_names(layout: &Layout, path: &Path) -> Parsed<Vec<String>> {
    let pickle = open(path)?;
    let key = layout.python_keys[0];
    pickle.texts(key).ok_or_else(|| Fault::new(format!("a pickle without {key}"), "a list of class names there"))
}

pub(crate) fn read_images(layout: &Layout, path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<u32>) -> Parsed<()> {
    let pickle = open(path)?;
    let key = layout.python_keys[1];
    let numbers = pickle.integers(key);
    let numbers =
        numbers.ok_or_else(|| Fault::new(format!("a pickle without {key}"), "a list of whole numbers there"))?;
    let (shape, images) =
        pickle.byte_array("data").ok_or_else(|| Fault::new("a pickle without data", "an array of bytes there"))?;
    if shape != [numbers.len(), PIXELS] {
        let expected = format!("[{}, {PIXELS}], one row a label", numbers.len());
        return Err(Fault::new(format!("data of shape {shape:?}"), expected));
    }
    for (record, (&number, planes)) in numbers.iter().zip(images.chunks_exact(PIXELS)).enumerate() {
        let label = u32::try_from(number).ok().filter(|&label| (label as usize) < layout.classes());
        let expected = || format!("0 to {}", layout.classes() - 1);
        labels.push(label.ok_or_else(|| Fault::new(format!("record {record} has label {number}"), expected()))?);
        interleave(planes, pixels);
    }
    Ok(())
}
