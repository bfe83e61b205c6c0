//! The inverse cosine transform: libjpeg's accurate integer one at full size, and small ones for reduced images.
//!
//! Full size: each of the two passes of libjpeg (Loeffler, Ligtenberg and Moschytz 1989, in 13-bit fixed point, with 2 extra
//! bits between the passes) rounds only at its end, so a pass is a product with one matrix of whole numbers. As products the
//! passes run on vectors and leave out the frequencies that a block lacks, and the samples are the same bit for bit.
//! Reduced: the transform of N x N points over the lowest N x N frequencies.

type Row = [i32; 8];

const CONSTANT_BITS: i32 = 13;
const EXTRA_BITS: i32 = 2;
const FIRST: i32 = CONSTANT_BITS - EXTRA_BITS;
const SECOND: i32 = CONSTANT_BITS + EXTRA_BITS + 3;

/// `FREQUENCIES[u][x]`: what frequency u adds at point x, times 2^13.
const FREQUENCIES: [Row; 8] = {
    let mut matrix = [[0; 8]; 8];
    let mut u = 0;
    while u < 8 {
        let mut unit = [0; 8];
        unit[u] = 1;
        matrix[u] = transform(unit);
        u += 1;
    }
    matrix
};

/// The same with points first.
const POINTS: [Row; 8] = {
    let mut matrix = [[0; 8]; 8];
    let mut k = 0;
    while k < 64 {
        matrix[k / 8][k % 8] = FREQUENCIES[k % 8][k / 8];
        k += 1;
    }
    matrix
};

/// The algorithm, whose constants are rounded to 13 bits before they are summed.
const fn transform(f: Row) -> Row {
    // Even part.
    let z1 = (f[2] + f[6]) * 4433;
    let (t2, t3) = (z1 - f[6] * 15137, z1 + f[2] * 6270);
    let (t0, t1) = ((f[0] + f[4]) << CONSTANT_BITS, (f[0] - f[4]) << CONSTANT_BITS);
    let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];
    // Odd part.
    let z5 = (f[7] + f[3] + f[5] + f[1]) * 9633;
    let (z1, z2) = ((f[7] + f[1]) * -7373, (f[5] + f[3]) * -20995);
    let (z3, z4) = ((f[7] + f[3]) * -16069 + z5, (f[5] + f[1]) * -3196 + z5);
    let odd = [f[1] * 12299 + z1 + z4, f[3] * 25172 + z2 + z3, f[5] * 16819 + z2 + z4, f[7] * 2446 + z1 + z3];
    [
        even[0] + odd[0],
        even[1] + odd[1],
        even[2] + odd[2],
        even[3] + odd[3],
        even[3] - odd[3],
        even[2] - odd[2],
        even[1] - odd[1],
        even[0] - odd[0],
    ]
}

#[inline(always)]
fn sample(value: i32) -> u8 {
    value.saturating_add(128).clamp(0, 255) as u8
}

/// `sum += factor * row`, wrapping, as damaged files hold any numbers.
#[inline(always)]
fn add(sum: &mut Row, factor: i32, row: &Row) {
    for (sum, value) in sum.iter_mut().zip(row) {
        *sum = sum.wrapping_add(value.wrapping_mul(factor));
    }
}

/// Samples of a block from its dequantised coefficients, of which only the first `extent` rows and columns are not 0.
#[inline(always)]
pub(super) fn full(coefficients: &[i32; 64], extent: usize, out: &mut [u8], stride: usize) {
    let (coefficients, _) = coefficients.as_chunks::<8>();
    let mut between = [[0; 8]; 8];
    for (row, weights) in between.iter_mut().zip(&POINTS) {
        let mut sum = [1 << (FIRST - 1); 8];
        for (coefficients, &weight) in coefficients[..extent].iter().zip(weights) {
            add(&mut sum, weight, coefficients);
        }
        *row = sum.map(|value| value >> FIRST);
    }
    for (row, out) in between.iter().zip(out.chunks_mut(stride)) {
        let mut sum = [1 << (SECOND - 1); 8];
        for (&value, frequency) in row[..extent].iter().zip(&FREQUENCIES) {
            add(&mut sum, value, frequency);
        }
        for (out, value) in out[..8].iter_mut().zip(sum) {
            *out = sample(value >> SECOND);
        }
    }
}

/// All samples of a block that has no frequencies.
#[inline(always)]
pub(super) fn flat(dc: i32) -> u8 {
    sample(dc.wrapping_add(4) >> 3)
}

/// cos((2 x + 1) u pi / 2 N) times the orthonormal factors, divided by sqrt(8 / N): row x of the N x N transform.
fn basis<const N: usize>() -> [[f32; N]; N] {
    std::array::from_fn(|x| {
        std::array::from_fn(|u| {
            let angle = (2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / (2 * N) as f64;
            let norm = if u == 0 { (1.0 / 8.0f64).sqrt() } else { (2.0 / 8.0f64).sqrt() };
            (angle.cos() * norm) as f32
        })
    })
}

/// Samples of a block reduced to N x N.
pub(super) struct Reduced<const N: usize> {
    basis: [[f32; N]; N],
}

impl<const N: usize> Reduced<N> {
    pub(super) fn new() -> Self {
        Self { basis: basis() }
    }

    #[inline(always)]
    pub(super) fn samples(&self, coefficients: &[i32; 64]) -> [[u8; N]; N] {
        let mut half = [[0.0f32; N]; N];
        for (x, row) in half.iter_mut().enumerate() {
            for (u, value) in row.iter_mut().enumerate() {
                for v in 0..N {
                    *value += coefficients[v * 8 + u] as f32 * self.basis[x][v];
                }
            }
        }
        std::array::from_fn(|y| {
            std::array::from_fn(|x| {
                let terms = half[y].iter().zip(&self.basis[x]).map(|(value, weight)| value * weight);
                (128.5 + terms.sum::<f32>()) as u8
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coefficients(seed: i32) -> [i32; 64] {
        std::array::from_fn(|k| (seed * 31 + k as i32 * 77) % 181 / (1 + k as i32 / 4))
    }

    /// The definition (T.81, A.3.3) over the lowest N x N frequencies.
    fn exact<const N: usize>(coefficients: &[i32; 64]) -> Vec<f64> {
        let c = |u: usize| if u == 0 { (1.0 / 8.0f64).sqrt() } else { 0.5 };
        let cos = |x: usize, u: usize| ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / (2 * N) as f64).cos();
        let mut samples = Vec::new();
        for y in 0..N {
            for x in 0..N {
                let terms = (0..N).flat_map(|v| (0..N).map(move |u| (u, v)));
                let sum = terms.map(|(u, v)| c(u) * c(v) * f64::from(coefficients[v * 8 + u]) * cos(x, u) * cos(y, v));
                samples.push((sum.sum::<f64>() + 128.0).clamp(0.0, 255.0));
            }
        }
        samples
    }

    fn near(samples: impl IntoIterator<Item = u8>, exact: &[f64]) -> bool {
        samples.into_iter().zip(exact).all(|(a, b)| (f64::from(a) - b).abs() <= 1.0)
    }

    fn full_samples(block: &[i32; 64], extent: usize) -> [u8; 64] {
        let mut out = [0; 64];
        full(block, extent, &mut out, 8);
        out
    }

    #[test]
    fn frequencies_that_are_0_may_be_left_out() {
        let mut block = coefficients(3);
        block.iter_mut().enumerate().filter(|(k, _)| k / 8 >= 3 || k % 8 >= 4).for_each(|(_, value)| *value = 0);
        assert_eq!(full_samples(&block, 4), full_samples(&block, 8));
    }

    #[test]
    fn transforms_are_the_definition_rounded() {
        for seed in 0..40 {
            let block = coefficients(seed);
            assert!(near(full_samples(&block, 8), &exact::<8>(&block)));
            assert!(near(Reduced::<4>::new().samples(&block).as_flattened().to_vec(), &exact::<4>(&block)));
            assert!(near(Reduced::<2>::new().samples(&block).as_flattened().to_vec(), &exact::<2>(&block)));
            assert!(near(Reduced::<1>::new().samples(&block).as_flattened().to_vec(), &exact::<1>(&block)));
        }
    }

    #[test]
    fn a_block_without_frequencies_is_flat() {
        for dc in [-3000, -1024, -5, 0, 3, 4, 900, 5000] {
            let mut block = [0; 64];
            block[0] = dc;
            assert_eq!(full_samples(&block, 8), [flat(dc); 64]);
            assert_eq!(full_samples(&block, 1), [flat(dc); 64]);
        }
    }
}
