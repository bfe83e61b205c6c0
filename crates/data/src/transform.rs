//! What is done to each image on its way into a batch.

use crate::crop::ResizedCrop;
use crate::erase::RandomErasing;
use crate::jitter::ColorJitter;
use crate::normalization::Normalization;
use crate::policy::Policy;

/// Which part of an image a batch shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Crop {
    /// The centre, in the frame of the set.
    #[default]
    Centre,
    /// The centre, padded by this many black pixels on each side and cut to its old size at a random place (4 is
    /// usual for CIFAR). 0 pads nothing. Must be smaller than both sides of the frame.
    Pad(usize),
    /// A random part, scaled to the frame.
    Resized(ResizedCrop),
}

/// What is done to each image on its way into a batch, in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct Transform {
    pub crop: Crop,
    /// Mirror left to right with probability 1/2.
    pub flip: bool,
    pub color_jitter: Option<ColorJitter>,
    pub policy: Option<Policy>,
    pub normalization: Normalization,
    pub erasing: Option<RandomErasing>,
    /// Side of a square that is blanked at a random place; 16 is usual for CIFAR-10.
    pub cutout: Option<usize>,
}

impl Transform {
    /// Normalisation alone: for evaluation.
    pub fn plain(normalization: Normalization) -> Self {
        let (color_jitter, policy, erasing, cutout) = (None, None, None, None);
        Self { crop: Crop::Centre, flip: false, color_jitter, policy, normalization, erasing, cutout }
    }

    /// Whether pixels are changed, and not only moved.
    pub(crate) fn recolours(&self) -> bool {
        self.color_jitter.is_some() || self.policy.is_some()
    }
}
