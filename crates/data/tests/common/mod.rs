//! What tests of loaders share.

use std::hash::{DefaultHasher, Hash, Hasher};

use flatmin_data::Batch;

/// Of all bytes of a batch.
pub fn hash(batch: &Batch) -> u64 {
    let mut hasher = DefaultHasher::new();
    let bits: Vec<u32> = batch.images.iter().map(|v| v.to_bits()).collect();
    (bits, &batch.labels, batch.count).hash(&mut hasher);
    hasher.finish()
}
