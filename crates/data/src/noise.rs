//! Symmetric label noise by seed: the standard way to make a set on which memorising hurts.
//! Sharpness-aware training is compared with plain training on such sets (Foret et al. 2021, 3.3).

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

impl Dataset {
    /// The same images with `round(len * fraction)` labels, chosen at random, replaced by a class
    /// drawn uniformly from the others; so that share of the labels is wrong, exactly. (Where a
    /// paper draws from all classes, a share `f` of its noise is `f * (k - 1) / k` here.)
    ///
    /// Errors with `ERR_FLATMIN_OPTION` when `fraction` is not in `[0, 1]`, and with
    /// `ERR_FLATMIN_DATA` when there is no second class to draw.
    pub fn with_label_noise(&self, fraction: f64, seed: u64) -> Result<Self> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::option("labelNoise", fraction, "a fraction from 0 to 1"));
        }
        let noisy = (self.len() as f64 * fraction).round() as usize;
        let classes = self.num_classes();
        if noisy > 0 && classes < 2 {
            return Err(Error::Data(format!("{} has {classes} class; label noise needs at least 2", self.name())));
        }
        let mut stream = Stream::new(seed, Purpose::LabelNoise, 0, 0);
        let order = stream.permutation(self.len());
        let mut labels = self.labels.to_vec();
        for &position in &order[..noisy] {
            let label = &mut labels[position as usize];
            let step = 1 + stream.below(classes - 1);
            *label = ((*label as usize + step) % classes) as u32;
        }
        Ok(Self { labels: labels.into(), ..self.clone() })
    }
}
