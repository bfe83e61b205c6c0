//! Sixteen channels in a register, computed with in float32 whatever memory holds.

use std::arch::x86_64::*;

use half::bf16;

use crate::cpu::slab::Number;

/// Elements that fill AVX-512 registers sixteen at a time.
pub trait Lanes: Number {
    /// Sixteen elements; zeros if `inside` is false, and `at` is then not read.
    ///
    /// # Safety
    /// AVX-512 (F, BW, VL); the elements exist if they are inside.
    unsafe fn load(at: *const Self, inside: bool) -> __m512;

    /// Rounds to nearest, ties to even.
    ///
    /// # Safety
    /// AVX-512 (F, BW, VL); the elements exist.
    unsafe fn store(at: *mut Self, values: __m512);
}

impl Lanes for f32 {
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn load(at: *const Self, inside: bool) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(if inside { 0xffff } else { 0 }, at) }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn store(at: *mut Self, values: __m512) {
        unsafe { _mm512_storeu_ps(at, values) }
    }
}

impl Lanes for bf16 {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn load(at: *const Self, inside: bool) -> __m512 {
        unsafe {
            let bits = _mm256_maskz_loadu_epi16(if inside { 0xffff } else { 0 }, at.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn store(at: *mut Self, values: __m512) {
        unsafe {
            let bits = _mm512_castps_si512(values);
            let last = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), last);
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
            let rounded = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0_0000));
            _mm256_storeu_si256(at.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded)));
        }
    }
}
