//! The innermost loop: a tile of [`ROWS`] x [`COLUMNS`] sums that stay in registers over the whole depth.

use std::arch::x86_64::*;
use std::array::from_fn;

use super::{COLUMNS, ROWS};

const LANES: usize = 16;
const VECTORS: usize = COLUMNS / LANES;

/// What a tile of sums begins with.
#[derive(Clone, Copy)]
pub enum Start {
    Zero,
    /// What the output holds.
    Output,
    /// A number for each column.
    Bias(*const f32),
}

/// Where a tile is written: its rows lie `stride` apart, and only the first `rows` and `columns` of them exist.
#[derive(Clone, Copy)]
pub struct Output {
    pub start: *mut f32,
    pub stride: usize,
    pub rows: usize,
    pub columns: usize,
}

/// `out = start + left right`, where `left` has [`ROWS`] rows with the given strides of rows and of depth, and `right` is
/// `[depth, COLUMNS]`.
///
/// # Safety
/// AVX-512; the arrays have these sizes, a bias as many numbers as the tile has columns.
#[target_feature(enable = "avx512f")]
#[inline]
#[expect(clippy::needless_range_loop, reason = "loops of fixed length over a tile in registers")]
pub unsafe fn tile(
    left: *const f32,
    [row, step]: [usize; 2],
    right: *const f32,
    depth: usize,
    start: Start,
    out: Output,
) {
    unsafe {
        let masks: [__mmask16; VECTORS] = from_fn(|vector| lanes(out.columns.saturating_sub(vector * LANES)));
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
        for k in 0..depth {
            let values: [__m512; VECTORS] = from_fn(|vector| _mm512_loadu_ps(right.add(k * COLUMNS + vector * LANES)));
            for r in 0..ROWS {
                let factor = _mm512_set1_ps(*left.add(r * row + k * step));
                for vector in 0..VECTORS {
                    sums[r][vector] = _mm512_fmadd_ps(factor, values[vector], sums[r][vector]);
                }
            }
        }
        for r in 0..ROWS {
            if r >= out.rows {
                break;
            }
            for vector in 0..VECTORS {
                let (place, mask) = (out.start.wrapping_add(r * out.stride + vector * LANES), masks[vector]);
                let before = match start {
                    Start::Zero => _mm512_setzero_ps(),
                    Start::Output => _mm512_maskz_loadu_ps(mask, place),
                    Start::Bias(bias) => _mm512_maskz_loadu_ps(mask, bias.wrapping_add(vector * LANES)),
                };
                _mm512_mask_storeu_ps(place, mask, _mm512_add_ps(sums[r][vector], before));
            }
        }
    }
}

/// The first `count` lanes.
pub fn lanes(count: usize) -> __mmask16 {
    if count >= LANES { !0 } else { (1 << count) - 1 }
}
