//! What tests of loaders share.

use std::hash::{DefaultHasher, Hash, Hasher};

use flatmin_data::{Batch, Images};

/// Of all bytes of a batch.
pub fn hash(batch: &Batch) -> u64 {
    let mut hasher = DefaultHasher::new();
    match &batch.images {
        Images::F32(values) => values.iter().for_each(|value| value.to_bits().hash(&mut hasher)),
        Images::Bf16(values) => values.iter().for_each(|value| value.to_bits().hash(&mut hasher)),
        Images::U8(values) => values.hash(&mut hasher),
    }
    (&batch.labels, batch.count).hash(&mut hasher);
    hasher.finish()
}
