//! The products at one point of Winograd's domain, in register tiles: tiles of the image times channels.

use std::arch::x86_64::*;
use std::array::from_fn;

use super::LANES;

/// Tiles of the image whose sums [`product`] keeps in registers.
pub const ROWS: usize = 12;
/// Input channels whose sums [`outer_product`] keeps in registers.
const INPUTS: usize = 8;

/// `m [rows, k] = v [rows, c] u [c, k]`.
///
/// # Safety
/// AVX-512; the arrays have these sizes, c and k are multiples of the lanes, and rows of [`ROWS`].
#[target_feature(enable = "avx512f")]
pub unsafe fn product(v: *const f32, u: *const f32, m: *mut f32, rows: usize, [c, k]: [usize; 2]) {
    unsafe {
        match k.is_multiple_of(2 * LANES) {
            true => product_of::<2>(v, u, m, rows, [c, k]),
            false => product_of::<1>(v, u, m, rows, [c, k]),
        }
    }
}

/// # Safety
/// As for [`product`], k a multiple of so many vectors.
#[target_feature(enable = "avx512f")]
#[inline]
#[expect(clippy::needless_range_loop, reason = "loops of fixed length over a tile in registers")]
unsafe fn product_of<const VECTORS: usize>(v: *const f32, u: *const f32, m: *mut f32, rows: usize, [c, k]: [usize; 2]) {
    unsafe {
        for start in (0..k).step_by(VECTORS * LANES) {
            for first in (0..rows).step_by(ROWS) {
                let v = v.add(first * c);
                let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
                for channel in 0..c {
                    let filters: [__m512; VECTORS] =
                        from_fn(|vector| _mm512_loadu_ps(u.add(channel * k + start + vector * LANES)));
                    for row in 0..ROWS {
                        let value = _mm512_set1_ps(*v.add(row * c + channel));
                        for vector in 0..VECTORS {
                            sums[row][vector] = _mm512_fmadd_ps(value, filters[vector], sums[row][vector]);
                        }
                    }
                }
                for row in 0..ROWS {
                    for vector in 0..VECTORS {
                        _mm512_storeu_ps(m.add((first + row) * k + start + vector * LANES), sums[row][vector]);
                    }
                }
            }
        }
    }
}

/// `sums [c, k] += v [rows, c]^T e [rows, k]`.
///
/// # Safety
/// As for [`product`].
#[target_feature(enable = "avx512f")]
pub unsafe fn outer_product(v: *const f32, e: *const f32, sums: *mut f32, rows: usize, [c, k]: [usize; 2]) {
    unsafe {
        match k.is_multiple_of(2 * LANES) {
            true => outer_product_of::<2>(v, e, sums, rows, [c, k]),
            false => outer_product_of::<1>(v, e, sums, rows, [c, k]),
        }
    }
}

/// # Safety
/// As for [`outer_product`], k a multiple of so many vectors.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn outer_product_of<const VECTORS: usize>(
    v: *const f32,
    e: *const f32,
    sums: *mut f32,
    rows: usize,
    [c, k]: [usize; 2],
) {
    unsafe {
        for start in (0..k).step_by(VECTORS * LANES) {
            for channel in (0..c).step_by(INPUTS) {
                let place = |input: usize, vector: usize| (channel + input) * k + start + vector * LANES;
                let mut tile: [[__m512; VECTORS]; INPUTS] =
                    from_fn(|input| from_fn(|vector| _mm512_loadu_ps(sums.add(place(input, vector)))));
                for row in 0..rows {
                    let gradients: [__m512; VECTORS] =
                        from_fn(|vector| _mm512_loadu_ps(e.add(row * k + start + vector * LANES)));
                    for (input, sums) in tile.iter_mut().enumerate() {
                        let value = _mm512_set1_ps(*v.add(row * c + channel + input));
                        for (sum, &gradient) in sums.iter_mut().zip(&gradients) {
                            *sum = _mm512_fmadd_ps(value, gradient, *sum);
                        }
                    }
                }
                for (input, values) in tile.iter().enumerate() {
                    for (vector, &value) in values.iter().enumerate() {
                        _mm512_storeu_ps(sums.add(place(input, vector)), value);
                    }
                }
            }
        }
    }
}
