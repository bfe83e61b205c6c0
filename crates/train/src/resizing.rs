//! Progressive resizing: small images at first, which cost less, growing to their full size towards the end of training. Tan and
//! Le 2021 (EfficientNetV2, section 4.2) describe it; the ramp is that of the FFCV ImageNet recipe.

use flatmin_data::{Dataset, Frame};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Sizes of the training images along a run. In JSON all names are camelCase; all but `from` have a default.
///
/// Epochs before `start_epoch` show images of side `from`, those from `end_epoch` on of side `to`; between them the side grows
/// linearly and is rounded to a multiple of `increment`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProgressiveResizing {
    /// Side of the images at first, in pixels.
    pub from: usize,
    /// Default: the side of the training set's images.
    #[serde(default)]
    pub to: Option<usize>,
    /// Pixels. Default 32.
    #[serde(default = "default_increment")]
    pub increment: usize,
    /// Epochs before the images begin to grow. Default: half of the run.
    #[serde(default)]
    pub start_epoch: Option<u64>,
    /// Epochs before the images have their last size. Default: four fifths of the run.
    #[serde(default)]
    pub end_epoch: Option<u64>,
}

fn default_increment() -> usize {
    32
}

impl ProgressiveResizing {
    /// The training images in their sizes, each with the first epoch, counted from 0, that shows it.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for values out of range, for images that lie in memory in their one size and for images that are
    /// not square.
    pub fn stages(&self, set: &Dataset, epochs: u64) -> Result<Vec<(u64, Dataset)>> {
        let frame = set.frame();
        let to = self.to.unwrap_or(frame.height);
        if frame.height != frame.width {
            let found = format!("given for images of {} x {}", frame.height, frame.width);
            return Err(Error::option("progressiveResizing", found, "square images"));
        }
        if !(1..=to).contains(&self.from) {
            let expected = format!("a side of 1 to {to} pixels, their last one");
            return Err(Error::option("progressiveResizing.from", self.from, expected));
        }
        if self.increment == 0 {
            return Err(Error::option("progressiveResizing.increment", 0, "a whole number, 1 or more"));
        }
        // A run of one epoch shows the full size.
        let last = epochs.saturating_sub(1);
        let end = self.end_epoch.unwrap_or((4 * epochs / 5).min(last)).max(self.start_epoch.unwrap_or(0));
        let start = self.start_epoch.unwrap_or((epochs / 2).min(end));
        if end > last || self.end_epoch.is_some_and(|given| given < start) {
            let expected =
                format!("{start} (startEpoch) to {last}, so that the last of {epochs} epochs has the full size");
            return Err(Error::option("progressiveResizing.endEpoch", self.end_epoch.unwrap_or(end), expected));
        }
        let resized = |size: usize| {
            let resize = (size * frame.resize).div_ceil(frame.height);
            set.with_frame(Frame { height: size, width: size, resize })
        };
        let mut stages: Vec<(u64, Dataset)> = Vec::new();
        for epoch in 0..epochs {
            let size = self.size(to, epoch, [start, end]);
            if stages.last().is_none_or(|(_, before)| before.frame().height != size) {
                stages.push((epoch, resized(size)?));
            }
        }
        Ok(stages)
    }

    /// The side of the images in an epoch.
    fn size(&self, to: usize, epoch: u64, [start, end]: [u64; 2]) -> usize {
        if epoch >= end {
            return to;
        }
        if epoch <= start {
            return self.from;
        }
        let share = (epoch - start) as f64 / (end - start) as f64;
        let size = self.from as f64 + share * (to - self.from) as f64;
        let steps = (size / self.increment as f64).round_ties_even() as usize;
        (steps * self.increment).clamp(self.from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatmin_data::{EncodedImages, EncodedOptions, digits};

    /// Images that nobody looks at.
    #[derive(Debug)]
    struct Unread;

    impl EncodedImages for Unread {
        fn len(&self) -> usize {
            2
        }

        fn name(&self, index: usize) -> String {
            index.to_string()
        }

        fn read(&self, _: usize, _: &mut Vec<u8>) -> flatmin_data::Result<()> {
            Ok(())
        }
    }

    fn set(frame: Frame) -> Dataset {
        Dataset::from_encoded(Unread, vec![0, 1], EncodedOptions { frame, ..EncodedOptions::default() }).unwrap()
    }

    fn resizing(json: &str) -> ProgressiveResizing {
        serde_json::from_str(json).unwrap()
    }

    fn sizes(json: &str, epochs: u64) -> Vec<(u64, usize)> {
        let stages = resizing(json).stages(&set(Frame::square(224)), epochs).unwrap();
        stages.iter().map(|(epoch, set)| (*epoch, set.frame().height)).collect()
    }

    #[test]
    fn sizes_are_those_of_ffcvs_recipe() {
        // Of 16 epochs, 160 to 192 from epoch 11 to 13.
        let ramp = r#"{"from":160,"to":192,"startEpoch":11,"endEpoch":13}"#;
        assert_eq!(sizes(ramp, 16), [(0, 160), (12, 192)]);
        let fine = r#"{"from":128,"to":224,"startEpoch":2,"endEpoch":8}"#;
        assert_eq!(sizes(fine, 10), [(0, 128), (4, 160), (5, 192), (8, 224)]);
    }

    #[test]
    fn growth_fills_the_second_half_up_to_four_fifths_unless_told() {
        assert_eq!(sizes(r#"{"from":128}"#, 90), [(0, 128), (50, 160), (59, 192), (68, 224)]);
        for (epochs, full) in [(1, 0), (2, 1), (3, 2), (5, 4)] {
            assert_eq!(sizes(r#"{"from":128}"#, epochs).last(), Some(&(full, 224)), "{epochs}");
        }
        assert_eq!(sizes(r#"{"from":224}"#, 5), [(0, 224)]);
    }

    #[test]
    fn the_share_of_the_image_that_is_shown_stays() {
        let stages = resizing(r#"{"from":112}"#).stages(&set(Frame::square(224)), 2).unwrap();
        let frames: Vec<_> = stages.iter().map(|(_, set)| (set.frame().height, set.frame().resize)).collect();
        assert_eq!(frames, [(112, 128), (224, 256)]);
    }

    #[test]
    fn wrong_values_are_named() {
        let square = set(Frame::square(224));
        let error = |json: &str, set: &Dataset| {
            let error = resizing(json).stages(set, 10).unwrap_err();
            assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
            error.to_string()
        };
        assert!(error(r#"{"from":0}"#, &square).starts_with("progressiveResizing.from is 0"));
        assert!(error(r#"{"from":256}"#, &square).contains("1 to 224"));
        assert!(error(r#"{"from":64,"increment":0}"#, &square).contains("increment"));
        assert!(error(r#"{"from":64,"endEpoch":10}"#, &square).contains("endEpoch is 10"));
        assert!(error(r#"{"from":64,"startEpoch":6,"endEpoch":5}"#, &square).contains("6 (startEpoch) to 9"));
        assert!(error(r#"{"from":64,"startEpoch":12}"#, &square).contains("endEpoch"));
        assert!(error(r#"{"from":4}"#, &digits().unwrap()).contains("one size"));
        let wide = set(Frame { height: 64, width: 96, resize: 96 });
        assert!(error(r#"{"from":32}"#, &wide).contains("square"));
    }
}
