//! Splits of a set by seed, disjoint by construction: the images are permuted once and cut.
//! "Best" models are chosen on one part and measured on another, so no image may lie in both.

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};

/// Size of one part of a split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SplitSize {
    /// A share of the whole set, above 0 and at most 1.
    Fraction(f64),
    /// A number of images, at least 1.
    Count(usize),
    /// All images that the other parts leave; at most one part may be the rest.
    Rest,
}

impl Dataset {
    /// Parts of the given sizes, each in random order, no image in two of them; images beyond the
    /// sum of the sizes are left out. The same seed gives the same parts.
    ///
    /// Cuts are rounded cumulatively, so fractions that add up to 1 cover the whole set. Errors with
    /// `ERR_FLATMIN_OPTION` on sizes out of range or beyond the set, and when a part would be empty.
    pub fn split(&self, sizes: &[SplitSize], seed: u64) -> Result<Vec<Self>> {
        let cuts = cuts(sizes, self.len())?;
        let order = Stream::new(seed, Purpose::Split, 0, 0).permutation(self.len());
        Ok(cuts.windows(2).map(|cut| self.view(&order[cut[0]..cut[1]])).collect())
    }
}

/// Where each part begins, and the end of the last.
fn cuts(sizes: &[SplitSize], count: usize) -> Result<Vec<usize>> {
    let bad = |found: String, expected: String| Err(Error::option("split", found, expected));
    if sizes.is_empty() {
        return bad("empty".to_owned(), "at least one size".to_owned());
    }
    let mut wanted = Vec::with_capacity(sizes.len());
    for size in sizes {
        wanted.push(match *size {
            SplitSize::Fraction(share) if share > 0.0 && share <= 1.0 => share * count as f64,
            SplitSize::Fraction(share) => {
                return bad(share.to_string(), "a fraction above 0 and at most 1".to_owned());
            }
            SplitSize::Count(n) => n as f64,
            SplitSize::Rest => 0.0,
        });
    }
    let sum: f64 = wanted.iter().sum();
    // A millionth of an image forgives fractions such as 0.7 + 0.2 + 0.1 their rounding.
    if sum > count as f64 + 1e-6 {
        return bad(format!("{sizes:?}, together {sum} images"), format!("at most the {count} images of the set"));
    }
    let rests = sizes.iter().filter(|s| **s == SplitSize::Rest).count();
    if rests > 1 {
        return bad(format!("{sizes:?}"), "the rest at most once".to_owned());
    }
    for (size, wanted) in sizes.iter().zip(&mut wanted) {
        if *size == SplitSize::Rest {
            *wanted = count as f64 - sum;
        }
    }
    let mut total = 0.0;
    let mut cuts = vec![0];
    for (size, wanted) in sizes.iter().zip(&wanted) {
        let before = cuts[cuts.len() - 1];
        total += wanted;
        let cut = (total.round() as usize).min(count);
        if cut <= before {
            return bad(
                format!("{size:?}"),
                format!("a size that leaves at least one of the {count} images for this part"),
            );
        }
        cuts.push(cut);
    }
    Ok(cuts)
}
