//! The rows of attention's weights in AVX-512: softmax forward, and backward.

use std::arch::x86_64::*;

use super::tile::lanes;

const LANES: usize = 16;

/// e^x for x at or below 0, to 2 ulp: 2^n e^r with r in [-ln 2 / 2, ln 2 / 2], e^r by its Taylor polynomial.
#[target_feature(enable = "avx512f")]
#[inline]
fn exp(x: __m512) -> __m512 {
    // Below, the result is 0 or denormal. In this order NaN stays NaN.
    let x = _mm512_max_ps(_mm512_set1_ps(-104.0), x);
    let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm512_mul_ps(
        x,
        _mm512_set1_ps(std::f32::consts::LOG2_E),
    ));
    // ln 2 in two parts, the first of few bits: n times it is exact.
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693_359_4), x);
    let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.121_944_4e-4), r);
    let factorials = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let mut sum = _mm512_setzero_ps();
    for factor in factorials {
        sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(factor));
    }
    _mm512_scalef_ps(sum, n)
}

/// Calls `body(offset, mask)` for each vector of a row.
#[inline(always)]
fn for_each(len: usize, mut body: impl FnMut(usize, __mmask16)) {
    for offset in (0..len).step_by(LANES) {
        body(offset, lanes(len - offset));
    }
}

/// scores = e^(scale scores - c) with the c that makes them add up to 1, which it answers.
///
/// # Safety
/// AVX-512.
#[target_feature(enable = "avx512f")]
pub unsafe fn softmax(scores: &mut [f32], scale: f32) -> f32 {
    let values = scores.as_mut_ptr();
    unsafe {
        let mut largest = _mm512_set1_ps(f32::NEG_INFINITY);
        for_each(scores.len(), |offset, mask| {
            largest = _mm512_mask_max_ps(largest, mask, largest, _mm512_maskz_loadu_ps(mask, values.add(offset)));
        });
        let largest = scale * _mm512_reduce_max_ps(largest);
        let mut sum = _mm512_setzero_ps();
        for_each(scores.len(), |offset, mask| {
            let value = weight(values.add(offset), mask, scale, largest);
            _mm512_mask_storeu_ps(values.add(offset), mask, value);
            sum = _mm512_mask_add_ps(sum, mask, sum, value);
        });
        let sum = _mm512_reduce_add_ps(sum);
        let factor = _mm512_set1_ps(1.0 / sum);
        for_each(scores.len(), |offset, mask| {
            let value = _mm512_maskz_loadu_ps(mask, values.add(offset));
            _mm512_mask_storeu_ps(values.add(offset), mask, _mm512_mul_ps(value, factor));
        });
        largest + sum.ln()
    }
}

/// scores = e^(scale scores - c).
///
/// # Safety
/// AVX-512.
#[target_feature(enable = "avx512f")]
pub unsafe fn weights(scores: &mut [f32], scale: f32, c: f32) {
    let values = scores.as_mut_ptr();
    for_each(scores.len(), |offset, mask| unsafe {
        _mm512_mask_storeu_ps(values.add(offset), mask, weight(values.add(offset), mask, scale, c));
    });
}

/// # Safety
/// The lanes of the mask exist.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn weight(score: *const f32, mask: __mmask16, scale: f32, c: f32) -> __m512 {
    let score = unsafe { _mm512_maskz_loadu_ps(mask, score) };
    exp(_mm512_fmsub_ps(score, _mm512_set1_ps(scale), _mm512_set1_ps(c)))
}

/// What comes back through a row of softmax: gradients = scale weights (gradients - sum(weights gradients)).
///
/// # Safety
/// AVX-512; both have one length.
#[target_feature(enable = "avx512f")]
pub unsafe fn gradient(weights: &[f32], gradients: &mut [f32], scale: f32) {
    let (weights, values, len) = (weights.as_ptr(), gradients.as_mut_ptr(), gradients.len());
    unsafe {
        let mut sum = _mm512_setzero_ps();
        for_each(len, |offset, mask| {
            let weight = _mm512_maskz_loadu_ps(mask, weights.add(offset));
            sum = _mm512_fmadd_ps(weight, _mm512_maskz_loadu_ps(mask, values.add(offset)), sum);
        });
        let sum = _mm512_set1_ps(_mm512_reduce_add_ps(sum));
        for_each(len, |offset, mask| {
            let weight = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, weights.add(offset)), _mm512_set1_ps(scale));
            let value = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, values.add(offset)), sum);
            _mm512_mask_storeu_ps(values.add(offset), mask, _mm512_mul_ps(weight, value));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_is_that_of_float64() {
        if !is_x86_feature_detected!("avx512f") {
            return;
        }
        for len in [1, 15, 16, 17, 197] {
            let scores: Vec<f32> = (0..len).map(|index| ((index * 37 % 101) as f32 - 50.0) * 2.5).collect();
            let exps: Vec<f64> = scores.iter().map(|&score| (0.5 * f64::from(score)).exp()).collect();
            let sum: f64 = exps.iter().sum();
            let (mut found, mut again) = (scores.clone(), scores);
            unsafe {
                let c = softmax(&mut found, 0.5);
                assert!((f64::from(c) - sum.ln()).abs() < 1e-5);
                weights(&mut again, 0.5, c);
            }
            for ((found, again), exp) in found.iter().zip(&again).zip(exps) {
                let expected = exp / sum;
                assert!((f64::from(*found) - expected).abs() <= 1e-6 * expected + 1e-38, "{found} for {expected}");
                assert!((f64::from(*again) - expected).abs() <= 1e-5 * expected + 1e-38, "{again} for {expected}");
            }
        }
    }
}
