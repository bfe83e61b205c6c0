//! The Python version of CIFAR: each file is the pickle of a dict with an array of bytes, `[images, 3072]`, and lists.

use std::fs;
use std::path::Path;

use super::cifar::{Layout, PIXELS, interleave};
use crate::formats::{Fault, Parsed, Pickle};

pub(crate) fn read_names(layout: &Layout, path: &Path) -> Parsed<Vec<String>> {
    let bytes = fs::read(path)?;
    let pickle = Pickle::read(&bytes)?;
    let key = layout.python_keys[0];
    let names = pickle.get(key).and_then(|names| names.texts());
    names.ok_or_else(|| Fault::new(format!("a pickle without {key}"), "a list of class names there"))
}

pub(crate) fn read_images(layout: &Layout, path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<u32>) -> Parsed<()> {
    let bytes = fs::read(path)?;
    let pickle = Pickle::read(&bytes)?;
    let key = layout.python_keys[1];
    let numbers = pickle.get(key).and_then(|list| list.integers());
    let numbers =
        numbers.ok_or_else(|| Fault::new(format!("a pickle without {key}"), "a list of whole numbers there"))?;
    let array = pickle.get("data").and_then(|data| data.byte_array());
    let (shape, images) = array.ok_or_else(|| Fault::new("a pickle without data", "an array of bytes there"))?;
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
