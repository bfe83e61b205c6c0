//! Matrix products in float32 for processors that have AVX-512 but are not Intel's: there MKL, libtorch's own library, runs
//! its kernels for AVX2, at three quarters of what the processor can do; a tile of 12 x 32 sums in registers reaches six sevenths.
//!
//! The right matrix is packed into panels of 32 columns that lie in the order they are read in; the left one is read where it
//! lies. Every element of a product is summed by one thread in a fixed order, so threads change nothing.

pub mod attention;
pub mod linear;
mod softmax;
mod tile;

use std::sync::LazyLock;

use super::scratch::Scratch;
use tile::{Output, Start, tile};

/// Of the left matrix, in a tile.
const ROWS: usize = 12;
/// Of the right matrix, in a tile: a panel.
const COLUMNS: usize = 32;
/// A panel of this depth stays in the inner caches.
const DEPTH: usize = 384;

/// Whether these products are faster here than libtorch's.
pub fn is_faster() -> bool {
    static FASTER: LazyLock<bool> = LazyLock::new(|| {
        // Leaf 0 of cpuid names the maker: "GenuineIntel" in ebx, edx, ecx.
        let maker = std::arch::x86_64::__cpuid(0);
        let is_intel = [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel";
        is_x86_feature_detected!("avx512f") && !is_intel
    });
    *FASTER
}

/// A matrix in memory: element (r, c) lies at `r * row + c * column`.
#[derive(Clone, Copy)]
struct Matrix {
    start: *const f32,
    row: usize,
    column: usize,
}

// SAFETY: a matrix is only read; whoever makes one answers for the memory.
unsafe impl Send for Matrix {}
unsafe impl Sync for Matrix {}

impl Matrix {
    fn transposed(self) -> Self {
        Self { start: self.start, row: self.column, column: self.row }
    }

    fn at(self, row: usize, column: usize) -> *const f32 {
        self.start.wrapping_add(row * self.row + column * self.column)
    }
}

/// A buffer of this thread whose first element begins a cache line.
struct Buffer {
    values: Scratch<f32>,
    first: usize,
    len: usize,
}

impl Buffer {
    fn new(len: usize) -> Self {
        let values = Scratch::<f32>::new(len + 16);
        let first = values.as_ptr().align_offset(64);
        Self { values, first, len }
    }

    fn values(&mut self) -> &mut [f32] {
        &mut self.values[self.first..self.first + self.len]
    }
}

/// Elements of a packed right matrix `[depth, columns]`.
fn packed_len(depth: usize, columns: usize) -> usize {
    columns.div_ceil(COLUMNS) * COLUMNS * depth
}

/// Packs one panel `[depth, COLUMNS]` of the right matrix; columns that do not exist are 0.
///
/// # Safety
/// The matrix is `[depth, columns]`.
unsafe fn pack_panel(right: Matrix, panel: usize, columns: usize, out: &mut [f32]) {
    let first = panel * COLUMNS;
    let width = COLUMNS.min(columns - first);
    unsafe {
        if width < COLUMNS {
            out.fill(0.0);
        }
        if right.column == 1 {
            for (k, out) in out.chunks_exact_mut(COLUMNS).enumerate() {
                let row = right.at(k, first);
                match width {
                    COLUMNS => out.copy_from_slice(&*row.cast::<[f32; COLUMNS]>()),
                    _ => out[..width].copy_from_slice(std::slice::from_raw_parts(row, width)),
                }
            }
            return;
        }
        for column in 0..width {
            let mut source = right.at(0, first + column);
            for value in out[column..].iter_mut().step_by(COLUMNS) {
                *value = *source;
                source = source.wrapping_add(right.row);
            }
        }
    }
}

/// Packs the whole right matrix on this thread.
///
/// # Safety
/// As for [`pack_panel`].
unsafe fn pack(right: Matrix, [depth, columns]: [usize; 2], out: &mut [f32]) {
    for (panel, out) in out.chunks_exact_mut(depth * COLUMNS).enumerate() {
        unsafe { pack_panel(right, panel, columns, out) };
    }
}

/// A packed right matrix.
#[derive(Clone, Copy)]
struct Panels<'a> {
    values: &'a [f32],
    depth: usize,
    columns: usize,
}

/// `out [rows, columns] = start + left [rows, depth] right [depth, columns]` on this thread.
///
/// # Safety
/// AVX-512; the matrices have these sizes, rows of `out` lie `stride` apart, and nobody else touches them.
#[target_feature(enable = "avx512f")]
unsafe fn multiply(left: Matrix, right: Panels<'_>, rows: usize, start: Start, out: *mut f32, stride: usize) {
    let full = rows / ROWS * ROWS;
    let mut rest = Buffer::new(ROWS * right.depth);
    let rest = rest.values();
    if full < rows {
        // The last rows, with zeros below them, as [depth, ROWS].
        for (k, out) in rest.chunks_exact_mut(ROWS).enumerate() {
            for (r, value) in out.iter_mut().enumerate() {
                *value = if full + r < rows { unsafe { *left.at(full + r, k) } } else { 0.0 };
            }
        }
    }
    for first in (0..right.depth).step_by(DEPTH) {
        let depth = DEPTH.min(right.depth - first);
        for (panel, values) in right.values.chunks_exact(right.depth * COLUMNS).enumerate() {
            let values = values[first * COLUMNS..].as_ptr();
            let columns = COLUMNS.min(right.columns - panel * COLUMNS);
            let start = match start {
                _ if first > 0 => Start::Output,
                Start::Bias(bias) => Start::Bias(bias.wrapping_add(panel * COLUMNS)),
                start => start,
            };
            let place = |row: usize| Output {
                start: out.wrapping_add(row * stride + panel * COLUMNS),
                stride,
                rows: rows - row,
                columns,
            };
            unsafe {
                for row in (0..full).step_by(ROWS) {
                    tile(left.at(row, first), [left.row, left.column], values, depth, start, place(row));
                }
                if full < rows {
                    tile(rest[first * ROWS..].as_ptr(), [1, ROWS], values, depth, start, place(full));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize) -> Vec<f32> {
        (0..len).map(|index| ((index * 7919 % 1009) as f32 / 1009.0) - 0.5).collect()
    }

    /// Sizes around those of a tile and of the depth, with both matrices lying either way.
    #[test]
    fn a_product_is_the_sum_of_products() {
        if !is_x86_feature_detected!("avx512f") {
            return;
        }
        for [m, n, k] in [[1, 1, 1], [12, 32, 384], [13, 33, 385], [29, 70, 800], [5, 16, 3]] {
            let (a, b, bias) = (numbers(m * k), numbers(k * n), numbers(n));
            for flipped in [false, true] {
                let lying = |start: *const f32, rows, columns| match flipped {
                    false => Matrix { start, row: columns, column: 1 },
                    true => Matrix { start, row: 1, column: rows },
                };
                let (left, right) = (lying(a.as_ptr(), m, k), lying(b.as_ptr(), k, n));
                let mut panels = vec![f32::NAN; packed_len(k, n)];
                let stride = n + 3;
                let mut out = vec![7.0; m * stride];
                unsafe {
                    pack(right, [k, n], &mut panels);
                    let panels = Panels { values: &panels, depth: k, columns: n };
                    multiply(left, panels, m, Start::Bias(bias.as_ptr()), out.as_mut_ptr(), stride);
                    multiply(left, panels, m, Start::Output, out.as_mut_ptr(), stride);
                }
                for (row, values) in out.chunks(stride).enumerate() {
                    for (column, &value) in values[..n].iter().enumerate() {
                        let product =
                            |k: usize| unsafe { f64::from(*left.at(row, k)) * f64::from(*right.at(k, column)) };
                        let expected = f64::from(bias[column]) + 2.0 * (0..k).map(product).sum::<f64>();
                        assert!((f64::from(value) - expected).abs() < 1e-4, "[{m}, {n}, {k}]: {value} for {expected}");
                    }
                    assert!(values[n..].iter().all(|&value| value == 7.0));
                }
            }
        }
    }
}
