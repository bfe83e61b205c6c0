//! Winograd's transforms F(4 x 4, 3 x 3) of tiles, filters and gradients, sixteen channels at a time.
//!
//! With the points p = 0, +-A, +-B and infinity (Toom and Cook's construction; Lavin 2016, section 4.1, takes A = 1, B = 2):
//! filters become G w G^T, G = p^i / prod (p - p_l); 6 x 6 windows of the image become V = B^T d B, the rows of B^T being the
//! coefficients of prod (x - p_l) over the other points; a tile of the output is A^T M A, A = p^i. A = sqrt(1/2),
//! B = sqrt(2) lose a third of the digits that 1 and 2 do.

use std::arch::x86_64::*;
use std::array::from_fn;

use super::lanes::Lanes;
use super::{KERNEL, LANES};

/// Side of a tile of the output.
pub const TILE: usize = 4;
/// Side of the window of the input that such a tile sees.
pub const WINDOW: usize = TILE + KERNEL - 1;
/// Points of the domain.
pub const POINTS: usize = WINDOW * WINDOW;

const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;
const A2: f32 = 0.5;
const B2: f32 = 2.0;

type Vector = __m512;

/// An image of a batch, channels-last, and its tiles in rows.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Grid {
    pub fn tiles(&self) -> usize {
        self.height.div_ceil(TILE) * self.width.div_ceil(TILE)
    }

    fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Image, and the first row and column of a tile.
    fn place(&self, tile: usize) -> [usize; 3] {
        let columns = self.width.div_ceil(TILE);
        let within = tile % self.tiles();
        [tile / self.tiles(), within / columns * TILE, within % columns * TILE]
    }
}

/// Places of a block's numbers in Winograd's domain: `[point, tile of the block, channel]`.
#[derive(Clone, Copy)]
pub struct Domain {
    pub tiles: usize,
    pub channels: usize,
}

impl Domain {
    pub fn len(&self) -> usize {
        POINTS * self.tiles * self.channels
    }

    fn at(&self, point: usize, tile: usize, channel: usize) -> usize {
        (point * self.tiles + tile) * self.channels + channel
    }
}

/// V = B^T d B of the windows of the tiles from `first` on; d is zero outside of its image.
///
/// # Safety
/// AVX-512 (F, BW, VL); `x` holds whole images of the grid, these tiles among them; `v` is where the domain has
/// the first of them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub unsafe fn windows<E: Lanes>(grid: Grid, x: &[E], first: usize, count: usize, domain: Domain, v: *mut f32) {
    unsafe { spread::<E, WINDOW>(grid, x, first, count, domain, v, |d| input(d)) }
}

/// A dy A^T of the tiles from `first` on, for the weight gradient.
///
/// # Safety
/// As for [`windows`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub unsafe fn gradients<E: Lanes>(grid: Grid, dy: &[E], first: usize, count: usize, domain: Domain, e: *mut f32) {
    unsafe { spread::<E, TILE>(grid, dy, first, count, domain, e, |dy| gradient(dy)) }
}

/// Both sides of `transform` on each tile's window of N x N pixels; those with 6 begin a pixel before the tile.
///
/// # Safety
/// As for [`windows`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
unsafe fn spread<E: Lanes, const N: usize>(
    Grid { height, width, channels }: Grid,
    x: &[E],
    first: usize,
    count: usize,
    domain: Domain,
    out: *mut f32,
    transform: impl Fn([Vector; N]) -> [Vector; WINDOW],
) {
    let grid = Grid { height, width, channels };
    assert!(count <= domain.tiles && channels == domain.channels);
    assert!((first + count).div_ceil(grid.tiles()) * grid.image_len() <= x.len());
    let (before, pitch) = ((N - TILE) / 2, width * channels);
    for tile in 0..count {
        let [image, top, left] = grid.place(first + tile);
        let (top, left) = (top.wrapping_sub(before), left.wrapping_sub(before));
        let corner = top.wrapping_mul(width).wrapping_add(left).wrapping_mul(channels);
        let corner = x.as_ptr().wrapping_add(image * grid.image_len()).wrapping_add(corner);
        let rows: [bool; N] = from_fn(|row| top.wrapping_add(row) < height);
        for channel in (0..channels).step_by(LANES) {
            let mut columns = [[_mm512_setzero_ps(); WINDOW]; N];
            for (column, values) in columns.iter_mut().enumerate() {
                let inside = left.wrapping_add(column) < width;
                let mut pixels = [_mm512_setzero_ps(); N];
                for (row, pixel) in pixels.iter_mut().enumerate() {
                    let at = corner.wrapping_add(row * pitch + column * channels + channel);
                    // SAFETY: read only if it is inside the image.
                    *pixel = unsafe { E::load(at, inside && rows[row]) };
                }
                *values = transform(pixels);
            }
            let at = unsafe { out.add(domain.at(0, tile, channel)) };
            for row in 0..WINDOW {
                let mut values = [_mm512_setzero_ps(); N];
                for (value, column) in values.iter_mut().zip(&columns) {
                    *value = column[row];
                }
                for (column, value) in transform(values).into_iter().enumerate() {
                    unsafe { _mm512_storeu_ps(at.add(domain.at(row * WINDOW + column, 0, 0)), value) };
                }
            }
        }
    }
}

/// Writes A^T M A to the tiles from `first` on, as far as they lie inside their image.
///
/// # Safety
/// As for [`windows`]; `m` is where the domain has the first tile, and nobody else touches these tiles of `y`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub unsafe fn outputs<E: Lanes>(
    Grid { height, width, channels }: Grid,
    m: *const f32,
    first: usize,
    count: usize,
    domain: Domain,
    y: *mut E,
) {
    let grid = Grid { height, width, channels };
    assert!(count <= domain.tiles && channels == domain.channels);
    for tile in 0..count {
        let [image, top, left] = grid.place(first + tile);
        for channel in (0..channels).step_by(LANES) {
            unsafe {
                let from = m.add(domain.at(0, tile, channel));
                let mut columns = [[_mm512_setzero_ps(); TILE]; WINDOW];
                for (column, values) in columns.iter_mut().enumerate() {
                    let mut points = [_mm512_setzero_ps(); WINDOW];
                    for (row, point) in points.iter_mut().enumerate() {
                        *point = _mm512_loadu_ps(from.add(domain.at(row * WINDOW + column, 0, 0)));
                    }
                    *values = output(points);
                }
                let corner = y.add(image * grid.image_len() + (top * width + left) * channels + channel);
                for row in 0..TILE.min(height - top) {
                    let mut values = [_mm512_setzero_ps(); WINDOW];
                    for (value, column) in values.iter_mut().zip(&columns) {
                        *value = column[row];
                    }
                    for (column, value) in output(values).into_iter().enumerate().take(width - left) {
                        E::store(corner.add((row * width + column) * channels), value);
                    }
                }
            }
        }
    }
}

/// G w G^T of one 3 x 3 filter for sixteen channels.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn filter(taps: [[Vector; KERNEL]; KERNEL]) -> [[Vector; WINDOW]; WINDOW] {
    let columns: [[Vector; WINDOW]; KERNEL] = from_fn(|column| spread_filter(from_fn(|row| taps[row][column])));
    from_fn(|row| spread_filter(from_fn(|column| columns[column][row])))
}

/// G^T dU G: the gradient of a filter from that of its transform.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn filter_gradient(points: [[Vector; WINDOW]; WINDOW]) -> [[Vector; KERNEL]; KERNEL] {
    let columns: [[Vector; KERNEL]; WINDOW] = from_fn(|column| gather_filter(from_fn(|row| points[row][column])));
    from_fn(|row| gather_filter(from_fn(|column| columns[column][row])))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn scale(factor: f32, value: Vector) -> Vector {
    _mm512_mul_ps(_mm512_set1_ps(factor), value)
}

/// factor x + y.
#[target_feature(enable = "avx512f")]
#[inline]
fn add_scaled(factor: f32, x: Vector, y: Vector) -> Vector {
    _mm512_fmadd_ps(_mm512_set1_ps(factor), x, y)
}

/// even + odd, even - odd: what the points p and -p have.
#[target_feature(enable = "avx512f")]
#[inline]
fn both_signs(even: Vector, odd: Vector) -> [Vector; 2] {
    [_mm512_add_ps(even, odd), _mm512_sub_ps(even, odd)]
}

/// B^T d.
#[target_feature(enable = "avx512f")]
#[inline]
fn input(d: [Vector; WINDOW]) -> [Vector; WINDOW] {
    let at_zero = |d: [Vector; 3]| add_scaled(A2 * B2, d[0], add_scaled(-(A2 + B2), d[1], d[2]));
    let [a, minus_a] = both_signs(add_scaled(-B2, d[2], d[4]), scale(A, add_scaled(-B2, d[1], d[3])));
    let [b, minus_b] = both_signs(add_scaled(-A2, d[2], d[4]), scale(B, add_scaled(-A2, d[1], d[3])));
    [at_zero([d[0], d[2], d[4]]), a, minus_a, b, minus_b, at_zero([d[1], d[3], d[5]])]
}

/// A^T m.
#[target_feature(enable = "avx512f")]
#[inline]
fn output(m: [Vector; WINDOW]) -> [Vector; TILE] {
    let [even_a, odd_a] = both_signs(m[1], m[2]);
    let [even_b, odd_b] = both_signs(m[3], m[4]);
    [
        _mm512_add_ps(m[0], _mm512_add_ps(even_a, even_b)),
        add_scaled(A, odd_a, scale(B, odd_b)),
        add_scaled(A2, even_a, scale(B2, even_b)),
        add_scaled(A * A2, odd_a, add_scaled(B * B2, odd_b, m[5])),
    ]
}

/// A y.
#[target_feature(enable = "avx512f")]
#[inline]
fn gradient(y: [Vector; TILE]) -> [Vector; WINDOW] {
    let at = |p: f32, p2: f32| both_signs(add_scaled(p2, y[2], y[0]), scale(p, add_scaled(p2, y[3], y[1])));
    let ([a, minus_a], [b, minus_b]) = (at(A, A2), at(B, B2));
    [y[0], a, minus_a, b, minus_b, y[3]]
}

// 1 / prod (p - p_l) for p = 0, +-A and +-B.
const AT_ZERO: f32 = 1.0 / (A2 * B2);
const AT_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const AT_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

/// G w.
#[target_feature(enable = "avx512f")]
#[inline]
fn spread_filter(w: [Vector; KERNEL]) -> [Vector; WINDOW] {
    let at =
        |p: f32, p2: f32, weight: f32| both_signs(scale(weight, add_scaled(p2, w[2], w[0])), scale(weight * p, w[1]));
    let ([a, minus_a], [b, minus_b]) = (at(A, A2, AT_A), at(B, B2, AT_B));
    [scale(AT_ZERO, w[0]), a, minus_a, b, minus_b, w[2]]
}

/// G^T u.
#[target_feature(enable = "avx512f")]
#[inline]
fn gather_filter(u: [Vector; WINDOW]) -> [Vector; KERNEL] {
    let [even_a, odd_a] = both_signs(u[1], u[2]);
    let [even_b, odd_b] = both_signs(u[3], u[4]);
    [
        add_scaled(AT_ZERO, u[0], add_scaled(AT_A, even_a, scale(AT_B, even_b))),
        add_scaled(AT_A * A, odd_a, scale(AT_B * B, odd_b)),
        add_scaled(AT_A * A2, even_a, add_scaled(AT_B * B2, even_b, u[5])),
    ]
}
