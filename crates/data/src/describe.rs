//! A summary of a set that can be printed or sent as JSON: what `inspect` commands show.

use serde::Serialize;

use crate::dataset::{Content, Dataset, ImageShape, Pixels};
use crate::normalization::Normalization;

/// How often a class occurs in a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    pub label: usize,
    pub name: String,
    pub count: usize,
}

/// Summary of a [`Dataset`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    pub name: String,
    pub count: usize,
    pub shape: ImageShape,
    /// How pixels lie in memory: `"uint8"` or `"float32"`, or `"encoded"` when they do not.
    pub dtype: &'static str,
    pub num_classes: usize,
    /// Every class in the order of the labels, those without an image too.
    pub classes: Vec<ClassCount>,
    pub normalization: Normalization,
}

impl Dataset {
    /// Name, size, shape and images a class.
    pub fn describe(&self) -> Description {
        let mut counts = vec![0; self.num_classes()];
        for &label in self.labels() {
            counts[label as usize] += 1;
        }
        let classes = self.class_names().iter().zip(counts).enumerate();
        Description {
            name: self.name().to_owned(),
            count: self.len(),
            shape: self.shape(),
            dtype: match self.store.content {
                Content::Pixels { pixels: Pixels::U8(_), .. } => "uint8",
                Content::Pixels { pixels: Pixels::F32(_), .. } => "float32",
                Content::Encoded { .. } => "encoded",
            },
            num_classes: self.num_classes(),
            classes: classes.map(|(label, (name, count))| ClassCount { label, name: name.clone(), count }).collect(),
            normalization: self.normalization().clone(),
        }
    }
}
