//! An arena's cut in device memory, with the scratch that sums over it need. Made once for a model and optimizer.

use tch::{Kind, Tensor};

use super::ffi;
use super::place::Place;
use crate::cpu::{Geometry, SegmentLayout};
use crate::error::Result;

/// Segments and blocks of an arena, on a device.
pub struct Cut {
    segments: Vec<SegmentLayout>,
    blocks: i32,
    filters: usize,
    /// The structs of the C interface, as 64-bit words.
    segment_words: Tensor,
    block_words: Tensor,
    scratch: Scratch,
}

impl Cut {
    /// # Errors
    /// If there is no memory.
    pub fn new(place: &Place, segments: &[SegmentLayout]) -> Result<Self> {
        let mut filters = 0;
        let mut rows = Vec::with_capacity(segments.len());
        let mut blocks = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let filter = match segment.geometry {
                Geometry::Filter { len } => len,
                _ => 0,
            };
            rows.push(ffi::Segment {
                offset: segment.offset as i64,
                len: segment.len as i64,
                filter: filter as i64,
                first_filter: filters as i64,
                geometry: match segment.geometry {
                    Geometry::Plain => 0,
                    Geometry::Element => 1,
                    Geometry::Filter { .. } => 2,
                },
                group: segment.group as i32,
                perturbed: segment.perturbed.into(),
                half: segment.half.into(),
            });
            let len = block_len(place.kernels.block_len as usize, filter);
            for start in (0..segment.len).step_by(len) {
                let len = len.min(segment.len - start);
                blocks.push(ffi::Block { start: start as i64, len: len as i32, segment: index as i32 });
            }
            filters += segment.len.checked_div(filter).unwrap_or(0);
        }
        let scratch = Scratch::new(place, (place.kernels.arena_scratch)(blocks.len() as i64))?;
        Ok(Self {
            segments: segments.to_vec(),
            blocks: blocks.len() as i32,
            filters,
            segment_words: words(place, &rows)?,
            block_words: words(place, &blocks)?,
            scratch,
        })
    }

    pub fn segments(&self) -> &[SegmentLayout] {
        &self.segments
    }

    /// Filters in all segments together, the length of the tensor of their scales.
    pub fn filters(&self) -> usize {
        self.filters
    }

    pub(super) fn raw(&self) -> ffi::Cut {
        ffi::Cut {
            segments: self.segment_words.data_ptr().cast(),
            blocks: self.block_words.data_ptr().cast(),
            segment_count: self.segments.len() as i32,
            block_count: self.blocks,
        }
    }

    pub(super) fn scratch(&self) -> ffi::Scratch {
        self.scratch.raw()
    }
}

/// Whole filters, as many as fit; a multiple of eight of them, so that blocks begin where eight elements can be moved at once.
fn block_len(most: usize, filter: usize) -> usize {
    match filter {
        0 => most,
        filter => match most / filter {
            0 => filter,
            few @ 1..8 => few * filter,
            many => many / 8 * 8 * filter,
        },
    }
}

/// Structs as a tensor of 64-bit words on the device.
fn words<T: Copy>(place: &Place, structs: &[T]) -> Result<Tensor> {
    const { assert!(size_of::<T>().is_multiple_of(8)) };
    // SAFETY: plain structs without padding, read as the words that they are made of.
    let words = unsafe { std::slice::from_raw_parts(structs.as_ptr().cast::<i64>(), size_of_val(structs) / 8) };
    place.bring(&Tensor::f_from_slice(words)?)
}

/// Memory for sums. Kernels that run at the same time need one each.
pub struct Scratch {
    partials: Tensor,
    counter: Tensor,
}

impl Scratch {
    pub(super) fn new(place: &Place, doubles: i64) -> Result<Self> {
        Ok(Self { partials: place.zeros(&[doubles], Kind::Double)?, counter: place.zeros(&[1], Kind::Int)? })
    }

    pub(super) fn raw(&self) -> ffi::Scratch {
        ffi::Scratch { partials: self.partials.data_ptr().cast(), counter: self.counter.data_ptr().cast() }
    }
}
