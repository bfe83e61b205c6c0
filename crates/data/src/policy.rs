//! Learnt and random augmentation policies: AutoAugment (Cubuk et al. 2019), RandAugment (Cubuk et al. 2020),
//! TrivialAugment (Müller and Hutter 2021), with torchvision's operations and magnitudes.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops::Op;
use crate::random::Stream;

/// The set on which an AutoAugment policy was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicySet {
    Cifar10,
    Imagenet,
    Svhn,
}

/// A policy, by which each image gets a few random operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Policy {
    /// One of 25 pairs of operations.
    AutoAugment { set: PolicySet },
    /// So many operations (usually 2), all of one magnitude from 0 to 30 (usually 9).
    RandAugment { operations: usize, magnitude: usize },
    /// One operation of random magnitude.
    TrivialAugment,
}

/// Operations by name; those without a sign get none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Invert,
}

use Kind::*;

/// What RandAugment and TrivialAugment choose from.
const SPACE: [Kind; 14] = [
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
];

/// Magnitudes of RandAugment and TrivialAugment are numbered from 0 to 30, those of AutoAugment from 0 to 9.
const BINS: usize = 31;
const AUTO_BINS: usize = 10;

/// How far the highest magnitudes go.
struct Strength {
    bins: usize,
    shear: f32,
    /// In pixels, across and down.
    translate: (f32, f32),
    rotate: f32,
    enhance: f32,
    /// Bits that posterising takes at most.
    bits: f32,
}

impl Strength {
    /// Of AutoAugment and RandAugment.
    fn usual(bins: usize, height: usize, width: usize) -> Self {
        let translate = |side: usize| (150.0 / 331.0 * side as f64) as f32;
        Self {
            bins,
            shear: 0.3,
            translate: (translate(width), translate(height)),
            rotate: 30.0,
            enhance: 0.9,
            bits: 4.0,
        }
    }

    /// Of TrivialAugment's wide space.
    fn wide() -> Self {
        Self { bins: BINS, shear: 0.99, translate: (32.0, 32.0), rotate: 135.0, enhance: 0.99, bits: 6.0 }
    }

    /// Number `bin` of `bins` points from `start` to `end`, rounded as torch.linspace rounds them.
    fn point(&self, start: f32, end: f32, bin: usize) -> f32 {
        let step = (end - start) / (self.bins - 1) as f32;
        match bin < self.bins / 2 {
            true => start + step * bin as f32,
            false => end - step * (self.bins - 1 - bin) as f32,
        }
    }

    fn op(&self, kind: Kind, bin: usize, negative: bool) -> Op {
        let signed = |most: f32| {
            let magnitude = f64::from(self.point(0.0, most, bin));
            if negative { -magnitude } else { magnitude }
        };
        let factor = || (1.0 + signed(self.enhance)) as f32;
        match kind {
            Identity => Op::Identity,
            ShearX => Op::ShearX(shear(signed(self.shear))),
            ShearY => Op::ShearY(shear(signed(self.shear))),
            TranslateX => Op::TranslateX(signed(self.translate.0) as i64),
            TranslateY => Op::TranslateY(signed(self.translate.1) as i64),
            Rotate => Op::Rotate(signed(self.rotate)),
            Brightness => Op::Brightness(factor()),
            Color => Op::Color(factor()),
            Contrast => Op::Contrast(factor()),
            Sharpness => Op::Sharpness(factor()),
            Posterize => {
                let taken = (bin as f32 / ((self.bins - 1) as f32 / self.bits)).round_ties_even();
                Op::Posterize(8 - taken as u32)
            }
            Solarize => Op::Solarize(f64::from(self.point(255.0, 0.0, bin))),
            AutoContrast => Op::AutoContrast,
            Equalize => Op::Equalize,
            Invert => Op::Invert,
        }
    }
}

/// Shears are given as angles and come back as their tangents, with what that rounds.
fn shear(magnitude: f64) -> f64 {
    magnitude.atan().to_degrees().to_radians().tan()
}

impl Policy {
    pub(crate) fn validate(self) -> Result<()> {
        let Self::RandAugment { operations, magnitude } = self else { return Ok(()) };
        if !(1..=SPACE.len()).contains(&operations) {
            return Err(Error::option("policy.operations", operations, format!("1 to {}", SPACE.len())));
        }
        if magnitude >= BINS {
            return Err(Error::option("policy.magnitude", magnitude, format!("0 to {}", BINS - 1)));
        }
        Ok(())
    }

    /// The operations for one image of this size.
    pub(crate) fn draw(self, height: usize, width: usize, stream: &mut Stream) -> Vec<Op> {
        match self {
            Self::AutoAugment { set } => {
                let strength = Strength::usual(AUTO_BINS, height, width);
                let pair = sub_policies(set)[stream.below(25)];
                let mut ops = Vec::with_capacity(2);
                for (kind, share, bin) in pair {
                    // Both numbers are drawn in any case, so that the next operation does not depend on this one.
                    let (chosen, negative) = (stream.chance(share), stream.chance(0.5));
                    if chosen {
                        ops.push(strength.op(kind, bin, negative));
                    }
                }
                ops
            }
            Self::RandAugment { operations, magnitude } => {
                let strength = Strength::usual(BINS, height, width);
                (0..operations).map(|_| strength.op(SPACE[stream.below(14)], magnitude, stream.chance(0.5))).collect()
            }
            Self::TrivialAugment => {
                let (kind, bin) = (SPACE[stream.below(14)], stream.below(BINS));
                vec![Strength::wide().op(kind, bin, stream.chance(0.5))]
            }
        }
    }
}

/// Two operations, each with its probability and the number of its magnitude.
type SubPolicy = [(Kind, f64, usize); 2];

/// Tables 7 to 9 of the paper's appendix.
fn sub_policies(set: PolicySet) -> &'static [SubPolicy; 25] {
    match set {
        PolicySet::Cifar10 => &CIFAR10,
        PolicySet::Imagenet => &IMAGENET,
        PolicySet::Svhn => &SVHN,
    }
}

const CIFAR10: [SubPolicy; 25] = [
    [(Invert, 0.1, 0), (Contrast, 0.2, 6)],
    [(Rotate, 0.7, 2), (TranslateX, 0.3, 9)],
    [(Sharpness, 0.8, 1), (Sharpness, 0.9, 3)],
    [(ShearY, 0.5, 8), (TranslateY, 0.7, 9)],
    [(AutoContrast, 0.5, 0), (Equalize, 0.9, 0)],
    [(ShearY, 0.2, 7), (Posterize, 0.3, 7)],
    [(Color, 0.4, 3), (Brightness, 0.6, 7)],
    [(Sharpness, 0.3, 9), (Brightness, 0.7, 9)],
    [(Equalize, 0.6, 0), (Equalize, 0.5, 0)],
    [(Contrast, 0.6, 7), (Sharpness, 0.6, 5)],
    [(Color, 0.7, 7), (TranslateX, 0.5, 8)],
    [(Equalize, 0.3, 0), (AutoContrast, 0.4, 0)],
    [(TranslateY, 0.4, 3), (Sharpness, 0.2, 6)],
    [(Brightness, 0.9, 6), (Color, 0.2, 8)],
    [(Solarize, 0.5, 2), (Invert, 0.0, 0)],
    [(Equalize, 0.2, 0), (AutoContrast, 0.6, 0)],
    [(Equalize, 0.2, 0), (Equalize, 0.6, 0)],
    [(Color, 0.9, 9), (Equalize, 0.6, 0)],
    [(AutoContrast, 0.8, 0), (Solarize, 0.2, 8)],
    [(Brightness, 0.1, 3), (Color, 0.7, 0)],
    [(Solarize, 0.4, 5), (AutoContrast, 0.9, 0)],
    [(TranslateY, 0.9, 9), (TranslateY, 0.7, 9)],
    [(AutoContrast, 0.9, 0), (Solarize, 0.8, 3)],
    [(Equalize, 0.8, 0), (Invert, 0.1, 0)],
    [(TranslateY, 0.7, 9), (AutoContrast, 0.9, 0)],
];

const IMAGENET: [SubPolicy; 25] = [
    [(Posterize, 0.4, 8), (Rotate, 0.6, 9)],
    [(Solarize, 0.6, 5), (AutoContrast, 0.6, 0)],
    [(Equalize, 0.8, 0), (Equalize, 0.6, 0)],
    [(Posterize, 0.6, 7), (Posterize, 0.6, 6)],
    [(Equalize, 0.4, 0), (Solarize, 0.2, 4)],
    [(Equalize, 0.4, 0), (Rotate, 0.8, 8)],
    [(Solarize, 0.6, 3), (Equalize, 0.6, 0)],
    [(Posterize, 0.8, 5), (Equalize, 1.0, 0)],
    [(Rotate, 0.2, 3), (Solarize, 0.6, 8)],
    [(Equalize, 0.6, 0), (Posterize, 0.4, 6)],
    [(Rotate, 0.8, 8), (Color, 0.4, 0)],
    [(Rotate, 0.4, 9), (Equalize, 0.6, 0)],
    [(Equalize, 0.0, 0), (Equalize, 0.8, 0)],
    [(Invert, 0.6, 0), (Equalize, 1.0, 0)],
    [(Color, 0.6, 4), (Contrast, 1.0, 8)],
    [(Rotate, 0.8, 8), (Color, 1.0, 2)],
    [(Color, 0.8, 8), (Solarize, 0.8, 7)],
    [(Sharpness, 0.4, 7), (Invert, 0.6, 0)],
    [(ShearX, 0.6, 5), (Equalize, 1.0, 0)],
    [(Color, 0.4, 0), (Equalize, 0.6, 0)],
    [(Equalize, 0.4, 0), (Solarize, 0.2, 4)],
    [(Solarize, 0.6, 5), (AutoContrast, 0.6, 0)],
    [(Invert, 0.6, 0), (Equalize, 1.0, 0)],
    [(Color, 0.6, 4), (Contrast, 1.0, 8)],
    [(Equalize, 0.8, 0), (Equalize, 0.6, 0)],
];

const SVHN: [SubPolicy; 25] = [
    [(ShearX, 0.9, 4), (Invert, 0.2, 0)],
    [(ShearY, 0.9, 8), (Invert, 0.7, 0)],
    [(Equalize, 0.6, 0), (Solarize, 0.6, 6)],
    [(Invert, 0.9, 0), (Equalize, 0.6, 0)],
    [(Equalize, 0.6, 0), (Rotate, 0.9, 3)],
    [(ShearX, 0.9, 4), (AutoContrast, 0.8, 0)],
    [(ShearY, 0.9, 8), (Invert, 0.4, 0)],
    [(ShearY, 0.9, 5), (Solarize, 0.2, 6)],
    [(Invert, 0.9, 0), (AutoContrast, 0.8, 0)],
    [(Equalize, 0.6, 0), (Rotate, 0.9, 3)],
    [(ShearX, 0.9, 4), (Solarize, 0.3, 3)],
    [(ShearY, 0.8, 8), (Invert, 0.7, 0)],
    [(Equalize, 0.9, 0), (TranslateY, 0.6, 6)],
    [(Invert, 0.9, 0), (Equalize, 0.6, 0)],
    [(Contrast, 0.3, 3), (Rotate, 0.8, 4)],
    [(Invert, 0.8, 0), (TranslateY, 0.0, 2)],
    [(ShearY, 0.7, 6), (Solarize, 0.4, 8)],
    [(Invert, 0.6, 0), (Rotate, 0.8, 4)],
    [(ShearY, 0.3, 7), (TranslateX, 0.9, 3)],
    [(ShearX, 0.1, 6), (Invert, 0.6, 0)],
    [(Solarize, 0.7, 2), (TranslateY, 0.6, 7)],
    [(ShearY, 0.8, 4), (Invert, 0.8, 0)],
    [(ShearX, 0.7, 9), (TranslateY, 0.8, 3)],
    [(ShearY, 0.8, 5), (AutoContrast, 0.7, 0)],
    [(ShearX, 0.7, 2), (Invert, 0.1, 0)],
];

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::random::Purpose;

    fn goldens() -> Value {
        serde_json::from_str(include_str!("../tests/goldens/augment.json")).unwrap()
    }

    /// The number of an operation as the goldens have it.
    fn value(op: Op) -> f64 {
        match op {
            Op::ShearX(value) | Op::ShearY(value) | Op::Rotate(value) | Op::Solarize(value) => value,
            Op::TranslateX(value) | Op::TranslateY(value) => value as f64,
            Op::Brightness(factor) | Op::Color(factor) | Op::Contrast(factor) | Op::Sharpness(factor) => {
                f64::from(factor) - 1.0
            }
            Op::Posterize(bits) => f64::from(bits),
            _ => 0.0,
        }
    }

    #[test]
    fn magnitudes_are_torchvisions() {
        let goldens = goldens();
        let spaces = [
            ("auto", Strength::usual(AUTO_BINS, 224, 100)),
            ("rand", Strength::usual(BINS, 224, 100)),
            ("trivial", Strength::wide()),
        ];
        for (space, strength) in spaces {
            for (name, table) in goldens["magnitudes"][space].as_object().unwrap() {
                let kind = SPACE.into_iter().find(|kind| format!("{kind:?}") == *name).unwrap();
                for (bin, expected) in table.as_array().unwrap().iter().enumerate() {
                    let expected = expected.as_f64().unwrap();
                    let found = value(strength.op(kind, bin, false));
                    // Whole pixels; torch's last bit decides whether 16 is 15.999999 and so 15.
                    let whole = matches!(kind, TranslateX | TranslateY) && found == (expected + 1e-5).trunc();
                    assert!(whole || (found - expected).abs() < 1e-6, "{space} {name} {bin}: {found}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn auto_augments_tables_are_the_papers() {
        let goldens = goldens();
        for (name, set) in
            [("cifar10", PolicySet::Cifar10), ("imagenet", PolicySet::Imagenet), ("svhn", PolicySet::Svhn)]
        {
            let expected = goldens["policies"][name].as_array().unwrap();
            for (pair, expected) in sub_policies(set).iter().zip(expected) {
                for ((kind, share, bin), expected) in pair.iter().zip(expected.as_array().unwrap()) {
                    assert_eq!(format!("{kind:?}"), expected[0].as_str().unwrap());
                    assert_eq!(
                        (*share, *bin as u64),
                        (expected[1].as_f64().unwrap(), expected[2].as_u64().unwrap_or(0))
                    );
                }
            }
        }
    }

    #[test]
    fn draws_follow_their_stream_and_have_the_asked_number() {
        let draw = |policy: Policy, k| policy.draw(32, 32, &mut Stream::new(1, Purpose::Augment, 0, k));
        let rand = Policy::RandAugment { operations: 3, magnitude: 9 };
        for k in 0..200 {
            assert_eq!(draw(rand, k).len(), 3);
            assert_eq!(draw(Policy::TrivialAugment, k).len(), 1);
            assert!(draw(Policy::AutoAugment { set: PolicySet::Svhn }, k).len() <= 2);
            assert_eq!(draw(rand, k), draw(rand, k));
        }
        assert!((0..50).any(|k| draw(rand, k) != draw(rand, k + 1)));
    }
}
