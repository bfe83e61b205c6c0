//! The passes of batch norm in AVX-512, where a compiler's own vector code falls short. It keeps running sums of this many
//! lanes in memory, where each addition waits for the store before it; here they stay in registers. And it rounds to
//! bfloat16 in eight operations; here one does.
//!
//! Each function answers false, having done nothing, where it does not apply: another processor, another number format, or a
//! period that is not a whole number of strips.

use super::stored::Stored;

/// Sums of `x - shift` and of its square at each index within the period.
pub fn shifted_sums<E: Stored>(x: &[E], shift: &[E::Real], first: &mut [E::Real], second: &mut [E::Real]) -> bool {
    sums::<E, SHIFTED>([x, x, x], [shift, shift, shift], first, second)
}

/// Sums of the gradient that passes where `scale x + shift` is above 0, and of it times `x - center`.
pub fn gated_sums<E: Stored>(
    [x, dy]: [&[E]; 2],
    [center, scale, shift]: [&[E::Real]; 3],
    first: &mut [E::Real],
    second: &mut [E::Real],
) -> bool {
    sums::<E, GATED>([x, dy, x], [center, scale, shift], first, second)
}

/// Sums of the gradient that passes where `y` is above 0, and of it times `x - center`.
pub fn masked_sums<E: Stored>(
    arrays: [&[E]; 3],
    center: &[E::Real],
    first: &mut [E::Real],
    second: &mut [E::Real],
) -> bool {
    sums::<E, MASKED>(arrays, [center, center, center], first, second)
}

/// `y = max(scale x + shift (+ residual), 0)` for bfloat16.
pub fn scale_shift_relu<E: Stored>(
    x: &[E],
    residual: Option<&[E]>,
    y: &mut [E],
    [scale, shift]: [&[E::Real]; 2],
) -> bool {
    let (len, period) = (x.len(), scale.len());
    let applies = is_bfloat16::<E>(len, period);
    if applies {
        let added = residual.unwrap_or(x);
        assert!(added.len() == len && y.len() == len && shift.len() == period);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: lengths and processor were checked, and E is bfloat16.
        unsafe {
            let (inputs, y) = ([x, added].map(|array| array.as_ptr().cast()), y.as_mut_ptr().cast());
            let constants = [scale, shift].map(|constant| constant.as_ptr().cast());
            match residual {
                None => x86::apply::<false>(inputs, y, constants, len, period),
                Some(_) => x86::apply::<true>(inputs, y, constants, len, period),
            }
        }
    }
    applies
}

/// `dx = a passed + b x + c` for bfloat16, `passed` being dy where `scale x + shift` is above 0.
pub fn gated_gradient<E: Stored>(
    [x, dy]: [&[E]; 2],
    dx: &mut [E],
    [scale, shift]: [&[E::Real]; 2],
    [a, b, c]: [&[E::Real]; 3],
) -> bool {
    let unused = std::ptr::null_mut();
    gradient::<E, GATED>([x, dy, x], [dx.as_mut_ptr(), unused], dx.len(), [scale, shift, a, b, c])
}

/// `dx = a passed + b x + c` for bfloat16, `passed` being dy where y is above 0; it is written too.
pub fn masked_gradient<E: Stored>(
    arrays: [&[E]; 3],
    dx: &mut [E],
    passed: &mut [E],
    [a, b, c]: [&[E::Real]; 3],
) -> bool {
    assert!(passed.len() == dx.len());
    gradient::<E, MASKED>(arrays, [dx.as_mut_ptr(), passed.as_mut_ptr()], dx.len(), [a, a, a, b, c])
}

fn gradient<E: Stored, const TERM: u8>(
    arrays: [&[E]; 3],
    out: [*mut E; 2],
    len: usize,
    constants: [&[E::Real]; 5],
) -> bool {
    let period = constants[0].len();
    let applies = is_bfloat16::<E>(len, period);
    if applies {
        assert!(arrays.iter().all(|array| array.len() == len));
        assert!(constants.iter().all(|constant| constant.len() == period));
        #[cfg(target_arch = "x86_64")]
        // SAFETY: lengths and processor were checked, and E is bfloat16.
        unsafe {
            let (arrays, out) = (arrays.map(|array| array.as_ptr().cast()), out.map(|array| array.cast()));
            let constants = constants.map(|constant| constant.as_ptr().cast());
            x86::gradient::<TERM>(arrays, out, constants, len, period);
        }
    }
    applies
}

/// Whether the kernels that write bfloat16 may run.
fn is_bfloat16<E: Stored>(len: usize, period: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    return size_of::<E>() == 2
        && period.is_multiple_of(x86::STRIP)
        && len.is_multiple_of(period)
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

const SHIFTED: u8 = 0;
const GATED: u8 = 1;
const MASKED: u8 = 2;

#[cfg(not(target_arch = "x86_64"))]
fn sums<E: Stored, const TERM: u8>(_: [&[E]; 3], _: [&[E::Real]; 3], _: &mut [E::Real], _: &mut [E::Real]) -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn sums<E: Stored, const TERM: u8>(
    arrays: [&[E]; 3],
    constants: [&[E::Real]; 3],
    first: &mut [E::Real],
    second: &mut [E::Real],
) -> bool {
    let (len, period) = (arrays[0].len(), first.len());
    let applies = size_of::<E::Real>() == size_of::<f32>()
        && period.is_multiple_of(x86::STRIP)
        && len.is_multiple_of(period)
        && is_x86_feature_detected!("avx512f");
    if applies {
        assert!(arrays.iter().all(|array| array.len() == len) && second.len() == period);
        assert!(constants.iter().all(|constant| constant.len() >= period));
        let (arrays, constants) =
            (arrays.map(|array| array.as_ptr()), constants.map(|constant| constant.as_ptr().cast()));
        let sums = [first.as_mut_ptr().cast(), second.as_mut_ptr().cast()];
        // SAFETY: lengths and processor were checked; a Real of four bytes is f32, and what is stored for it f32 or bf16.
        unsafe {
            match size_of::<E>() {
                2 => x86::sums::<true, TERM>(arrays.map(<*const E>::cast), constants, sums, len, period),
                _ => x86::sums::<false, TERM>(arrays.map(<*const E>::cast), constants, sums, len, period),
            }
        }
    }
    applies
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{GATED, MASKED, SHIFTED};

    const VECTORS: usize = 4;
    /// Indices of the period that are summed side by side.
    pub const STRIP: usize = 16 * VECTORS;
    /// How far ahead the next elements are asked for.
    const AHEAD: usize = 2048;

    /// Sixteen elements as f32.
    ///
    /// # Safety
    /// They lie within the array.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn load<const HALF: bool>(array: *const u8, index: usize) -> __m512 {
        unsafe {
            if HALF {
                let bits = _mm256_loadu_si256(array.add(2 * index).cast());
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
            } else {
                _mm512_loadu_ps(array.add(4 * index).cast())
            }
        }
    }

    /// Rounds sixteen elements to bfloat16.
    ///
    /// # Safety
    /// They lie within the array.
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[inline]
    unsafe fn store(array: *mut u16, index: usize, values: __m512) {
        unsafe {
            let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(values));
            _mm256_storeu_si256(array.add(index).cast(), rounded);
        }
    }

    /// `values` where `gate` is above 0, else 0. NaN passes, so that it is noticed.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn pass(gate: __m512, values: __m512) -> __m512 {
        _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLE_UQ>(gate, _mm512_setzero_ps()), values)
    }

    /// The constants of one strip of the period.
    ///
    /// # Safety
    /// The strip lies within the period.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn strip_of<const N: usize>(constants: [*const f32; N], strip: usize) -> [[__m512; VECTORS]; N] {
        let mut vectors = [[_mm512_setzero_ps(); VECTORS]; N];
        for (vectors, constant) in vectors.iter_mut().zip(constants) {
            for (v, vector) in vectors.iter_mut().enumerate() {
                *vector = unsafe { _mm512_loadu_ps(constant.add(strip + 16 * v)) };
            }
        }
        vectors
    }

    /// # Safety
    /// All arrays have `len` elements and constants `period`, both multiples of the strip.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn apply<const ADD: bool>(
        [x, residual]: [*const u8; 2],
        y: *mut u16,
        constants: [*const f32; 2],
        len: usize,
        period: usize,
    ) {
        unsafe {
            for strip in (0..period).step_by(STRIP) {
                let [scale, shift] = strip_of(constants, strip);
                for start in (strip..len).step_by(period) {
                    for v in 0..VECTORS {
                        let index = start + 16 * v;
                        let mut value = _mm512_fmadd_ps(load::<true>(x, index), scale[v], shift[v]);
                        if ADD {
                            value = _mm512_add_ps(value, load::<true>(residual, index));
                        }
                        store(y, index, pass(value, value));
                    }
                }
            }
        }
    }

    /// # Safety
    /// All arrays have `len` elements (the second result if it is written) and constants `period`, both multiples of the strip.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn gradient<const TERM: u8>(
        [x, dy, y]: [*const u8; 3],
        [dx, passed]: [*mut u16; 2],
        constants: [*const f32; 5],
        len: usize,
        period: usize,
    ) {
        unsafe {
            for strip in (0..period).step_by(STRIP) {
                let [scale, shift, a, b, c] = strip_of(constants, strip);
                for start in (strip..len).step_by(period) {
                    for v in 0..VECTORS {
                        let index = start + 16 * v;
                        let value = load::<true>(x, index);
                        let gate = match TERM {
                            GATED => _mm512_fmadd_ps(value, scale[v], shift[v]),
                            _ => load::<true>(y, index),
                        };
                        let gradient = pass(gate, load::<true>(dy, index));
                        if TERM == MASKED {
                            store(passed, index, gradient);
                        }
                        store(dx, index, _mm512_fmadd_ps(a[v], gradient, _mm512_fmadd_ps(b[v], value, c[v])));
                    }
                }
            }
        }
    }

    /// # Safety
    /// All arrays have `len` elements and constants and sums `period`, both multiples of the strip.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn sums<const HALF: bool, const TERM: u8>(
        [x, dy, y]: [*const u8; 3],
        constants: [*const f32; 3],
        [first, second]: [*mut f32; 2],
        len: usize,
        period: usize,
    ) {
        unsafe {
            for strip in (0..period).step_by(STRIP) {
                let [center, scale, shift] = strip_of(constants, strip);
                let (mut a, mut b) = ([_mm512_setzero_ps(); VECTORS], [_mm512_setzero_ps(); VECTORS]);
                for start in (strip..len).step_by(period) {
                    for v in 0..VECTORS {
                        let index = start + 16 * v;
                        let value = load::<HALF>(x, index);
                        let distance = _mm512_sub_ps(value, center[v]);
                        let passed = match TERM {
                            SHIFTED => distance,
                            _ => {
                                let gate = match TERM {
                                    GATED => _mm512_fmadd_ps(value, scale[v], shift[v]),
                                    _ => load::<HALF>(y, index),
                                };
                                pass(gate, load::<HALF>(dy, index))
                            }
                        };
                        a[v] = _mm512_add_ps(a[v], passed);
                        b[v] = _mm512_fmadd_ps(passed, distance, b[v]);
                        if !HALF || v % 2 == 0 {
                            let ahead = (if HALF { 2 } else { 4 }) * index + AHEAD;
                            _mm_prefetch::<_MM_HINT_T0>(x.wrapping_add(ahead).cast());
                            if TERM != SHIFTED {
                                _mm_prefetch::<_MM_HINT_T0>(dy.wrapping_add(ahead).cast());
                            }
                            if TERM == MASKED {
                                _mm_prefetch::<_MM_HINT_T0>(y.wrapping_add(ahead).cast());
                            }
                        }
                    }
                }
                for v in 0..VECTORS {
                    _mm512_storeu_ps(first.add(strip + 16 * v), a[v]);
                    _mm512_storeu_ps(second.add(strip + 16 * v), b[v]);
                }
            }
        }
    }
}
