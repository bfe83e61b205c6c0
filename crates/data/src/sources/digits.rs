//! The embedded digits: small enough to travel in the library, so a first run needs no download.
//! UCI Optical Recognition of Handwritten Digits, E. Alpaydin, C. Kaynak, 1998, CC BY 4.0.

use std::io::Read;

use flate2::read::GzDecoder;

use crate::dataset::{Content, Dataset, ImageShape, Pixels, Store};
use crate::error::{Error, Result};
use crate::normalization::Normalization;

static FILE: &[u8] = include_bytes!("../../assets/digits.csv.gz");
const SHAPE: ImageShape = ImageShape { height: 8, width: 8, channels: 1 };
/// Pixels count the dark cells of a 4 x 4 block: 16 is full.
const WHITE: u8 = 16;
const CLASSES: u32 = 10;

/// 1,797 handwritten digits, 8 x 8 x 1, ten classes, in the order of the published file. There is
/// no official split: use [`Dataset::split`].
pub fn digits() -> Result<Dataset> {
    let mut text = String::new();
    let read = GzDecoder::new(FILE).read_to_string(&mut text);
    read.map_err(|error| damaged(error.to_string()))?;
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let (image, label) = parse_line(line).ok_or_else(|| damaged(format!("line {} reads {line:?}", number + 1)))?;
        pixels.extend(image);
        labels.push(label);
    }
    let pixels = Pixels::U8(pixels);
    let store = Store {
        name: "digits".to_owned(),
        normalization: Normalization::measure(&pixels, f32::from(WHITE), SHAPE),
        content: Content::Pixels { shape: SHAPE, pixels, white: f32::from(WHITE) },
        class_names: (0..CLASSES).map(|k| k.to_string()).collect(),
    };
    Ok(Dataset::whole(store, labels))
}

/// 64 pixels, row by row, and the label, with commas between.
fn parse_line(line: &str) -> Option<(Vec<u8>, u32)> {
    let (pixels, label) = line.rsplit_once(',')?;
    let pixels: Vec<u8> = pixels.split(',').map(|v| v.parse().ok()).collect::<Option<_>>()?;
    let label: u32 = label.parse().ok()?;
    let fits = pixels.len() == SHAPE.elements() && pixels.iter().all(|&v| v <= WHITE);
    (fits && label < CLASSES).then_some((pixels, label))
}

fn damaged(found: String) -> Error {
    Error::Format {
        file: "the embedded digits.csv.gz".to_owned(),
        found,
        expected: "lines of 64 pixels (0 to 16) and a label (0 to 9)".to_owned(),
        fix: "Install the library again".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_published_set() {
        let set = digits().unwrap();
        assert_eq!((set.len(), set.num_classes()), (1797, 10));
        // The counts scikit-learn documents for its copy.
        let counts: Vec<usize> = set.describe().classes.iter().map(|c| c.count).collect();
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!(set.label(0).unwrap(), 0);
        assert_eq!(set.pixels(0).unwrap()[..4], [0.0, 0.0, 5.0 / 16.0, 13.0 / 16.0]);
    }

    #[test]
    fn recommends_what_normalises_it() {
        let set = digits().unwrap();
        let all: Vec<f64> = (0..set.len()).flat_map(|i| set.pixels(i).unwrap()).map(f64::from).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let std = (all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
        let recommended = set.normalization();
        assert!((f64::from(recommended.mean[0]) - mean).abs() < 1e-6);
        assert!((f64::from(recommended.std[0]) - std).abs() < 1e-6);
    }

    #[test]
    fn lines_that_are_not_digits_are_refused() {
        let good = format!("{}7", "3,".repeat(64));
        assert!(parse_line(&good).is_some());
        for bad in [
            "",
            "7",
            &format!("{}7", "3,".repeat(63)),
            &format!("{}10", "3,".repeat(64)),
            &format!("{}1", "17,".repeat(64)),
        ] {
            assert!(parse_line(bad).is_none(), "{bad}");
        }
    }
}
