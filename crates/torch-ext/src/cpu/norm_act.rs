//! Batch norm + ReLU, and batch norm + addition + ReLU, forward and backward, over channels-last activations.
//!
//! Done one after the other these are three passes over memory forward and four backward; here there are two and two:
//! one that sums, one that writes. Activations are seen as rows of `channels` numbers. Narrow rows are worked on several
//! at a time (*a period*), so that the vector units are always full.

use multiversion::multiversion;

use super::avx512;
use super::memory::{CHUNK, prefetch};
use super::slab::{Real, Slab};
use super::stored::Stored;
use crate::parallel_for;

/// Elements that one thread takes at a time.
const BLOCK: usize = 16 << 10;

/// Rows and channels of an activation, and how they are cut.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    channels: usize,
    len: usize,
    period: usize,
}

impl Rows {
    pub fn new(channels: usize, len: usize) -> Self {
        let period = if CHUNK.is_multiple_of(channels) { CHUNK } else { channels };
        Self { channels, len, period }
    }

    fn block_len(&self) -> usize {
        (BLOCK / self.period).max(1) * self.period
    }

    fn blocks(&self) -> usize {
        self.len.div_ceil(self.block_len())
    }

    fn range(&self, block: usize) -> std::ops::Range<usize> {
        let start = block * self.block_len();
        start..(start + self.block_len()).min(self.len)
    }

    /// Values of the channels, repeated to fill a period.
    fn repeat<T: Real>(&self, values: impl Fn(usize) -> f64) -> Vec<T> {
        (0..self.period).map(|index| T::of(values(index % self.channels))).collect()
    }
}

/// Two sums for each channel over all rows; blocks are added in order, whichever thread they came from.
fn channel_sums<T: Real>(
    rows: Rows,
    block_sums: impl Fn(std::ops::Range<usize>, &mut [T], &mut [T]) + Sync,
) -> Vec<[f64; 2]> {
    let period = rows.period;
    let mut partial = vec![T::zero(); rows.blocks() * 2 * period];
    let slots = PartialSums { start: partial.as_mut_ptr(), len: 2 * period };
    parallel_for(rows.blocks(), |block| {
        // SAFETY: each block has sums of its own.
        let (first, second) = unsafe { slots.of(block) }.split_at_mut(period);
        block_sums(rows.range(block), first, second);
    });
    let mut sums = vec![[0.0; 2]; rows.channels];
    for block in partial.chunks_exact(2 * period) {
        for (index, (first, second)) in block[..period].iter().zip(&block[period..]).enumerate() {
            let sum = &mut sums[index % rows.channels];
            sum[0] += first.wide();
            sum[1] += second.wide();
        }
    }
    sums
}

struct PartialSums<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: handed out a block at a time, each to one thread.
unsafe impl<T: Real> Sync for PartialSums<T> {}

impl<T> PartialSums<T> {
    /// # Safety
    /// One thread a block.
    unsafe fn of<'a>(&self, block: usize) -> &'a mut [T] {
        unsafe { std::slice::from_raw_parts_mut(self.start.add(block * self.len), self.len) }
    }
}

/// Mean and biased variance of each channel. Sums are taken of differences from the first row, so that a large mean does
/// not swallow a small variance.
pub fn batch_moments<E: Stored>(rows: Rows, x: Slab<E>) -> Vec<(f64, f64)> {
    // SAFETY: activations are only read.
    let origin: Vec<f64> = unsafe { x.read(0..rows.channels) }.iter().map(|value| value.load().wide()).collect();
    let shift: Vec<E::Real> = rows.repeat(|channel| origin[channel]);
    let sums = channel_sums(rows, |range, first, second| {
        let x = unsafe { x.read(range) };
        if !avx512::shifted_sums(x, &shift, first, second) {
            shifted_sums(x, &shift, first, second);
        }
    });
    let count = (rows.len / rows.channels) as f64;
    sums.iter()
        .zip(&origin)
        .map(|(sum, origin)| {
            let mean = sum[0] / count;
            (origin + mean, (sum[1] / count - mean * mean).max(0.0))
        })
        .collect()
}

/// `y = max(scale x + shift (+ residual), 0)`, scale and shift for each channel.
pub fn scale_shift_relu<E: Stored>(
    rows: Rows,
    x: Slab<E>,
    residual: Option<Slab<E>>,
    y: Slab<E>,
    coefficient: impl Fn(usize) -> (f64, f64),
) {
    let scale: Vec<E::Real> = rows.repeat(|channel| coefficient(channel).0);
    let shift: Vec<E::Real> = rows.repeat(|channel| coefficient(channel).1);
    parallel_for(rows.blocks(), |block| {
        let range = || rows.range(block);
        // SAFETY: blocks are disjoint, and y is a new tensor.
        let (x, y) = unsafe { (x.read(range()), y.write(range())) };
        let residual = residual.map(|residual| unsafe { residual.read(range()) });
        if avx512::scale_shift_relu(x, residual, y, [&scale, &shift]) {
            return;
        }
        match residual {
            None => apply(x, y, &scale, &shift),
            Some(residual) => apply_add(x, residual, y, &scale, &shift),
        }
    });
}

/// What of the output decides where the gradient passes the ReLU.
#[derive(Clone, Copy)]
pub enum Gate<'a, E> {
    /// Where scale x + shift is above 0, recomputed: nothing more to read.
    Input { scale: &'a [f64], shift: &'a [f64] },
    /// Where y is above 0, for outputs that a residual was added to.
    Output(Slab<E>),
}

/// For each channel: the sums of dy and of dy (x - mean), dy being the gradient that passed the ReLU.
pub fn gradient_sums<E: Stored>(rows: Rows, x: Slab<E>, dy: Slab<E>, gate: Gate<'_, E>, mean: &[f64]) -> Vec<[f64; 2]> {
    let center: Vec<E::Real> = rows.repeat(|channel| mean[channel]);
    let gate = PeriodicGate::new(rows, gate);
    channel_sums(rows, |range, first, second| {
        // SAFETY: all are only read.
        let (x, dy) = unsafe { (x.read(range.clone()), dy.read(range.clone())) };
        match &gate {
            PeriodicGate::Input { scale, shift } => {
                if !avx512::gated_sums([x, dy], [&center, scale, shift], first, second) {
                    gated_sums(x, dy, scale, shift, &center, first, second);
                }
            }
            PeriodicGate::Output(y) => {
                let y = unsafe { y.read(range) };
                if !avx512::masked_sums([x, dy, y], &center, first, second) {
                    masked_sums(x, dy, y, &center, first, second);
                }
            }
        }
    })
}

/// `dx = a dy + b x + c` with the three coefficients of each channel, dy being the gradient that passed the ReLU; where a
/// residual was added, its gradient is dy itself.
pub fn input_gradient<E: Stored>(
    rows: Rows,
    x: Slab<E>,
    dy: Slab<E>,
    gate: Gate<'_, E>,
    coefficient: impl Fn(usize) -> [f64; 3],
    dx: Slab<E>,
    residual_gradient: Option<Slab<E>>,
) {
    let [a, b, c] = [0, 1, 2].map(|part| rows.repeat::<E::Real>(|channel| coefficient(channel)[part]));
    let gate = PeriodicGate::new(rows, gate);
    parallel_for(rows.blocks(), |block| {
        let range = || rows.range(block);
        // SAFETY: blocks are disjoint, dx and the residual's gradient are new tensors.
        let (x, dy, dx) = unsafe { (x.read(range()), dy.read(range()), dx.write(range())) };
        match (&gate, residual_gradient) {
            (PeriodicGate::Input { scale, shift }, _) => {
                if !avx512::gated_gradient([x, dy], dx, [scale, shift], [&a, &b, &c]) {
                    gated_gradient(x, dy, dx, scale, shift, [&a, &b, &c]);
                }
            }
            (PeriodicGate::Output(y), Some(passed)) => {
                let (y, passed) = unsafe { (y.read(range()), passed.write(range())) };
                if !avx512::masked_gradient([x, dy, y], dx, passed, [&a, &b, &c]) {
                    masked_gradient(x, dy, y, dx, passed, [&a, &b, &c]);
                }
            }
            (PeriodicGate::Output(y), None) => {
                let mut passed = vec![E::store(E::Real::of(0.0)); x.len()];
                masked_gradient(x, dy, unsafe { y.read(range()) }, dx, &mut passed, [&a, &b, &c]);
            }
        }
    });
}

enum PeriodicGate<E: Stored> {
    Input { scale: Vec<E::Real>, shift: Vec<E::Real> },
    Output(Slab<E>),
}

impl<E: Stored> PeriodicGate<E> {
    fn new(rows: Rows, gate: Gate<'_, E>) -> Self {
        match gate {
            Gate::Input { scale, shift } => Self::Input {
                scale: rows.repeat(|channel| scale[channel]),
                shift: rows.repeat(|channel| shift[channel]),
            },
            Gate::Output(y) => Self::Output(y),
        }
    }
}

/// ReLU's gate. NaN passes, so that it is noticed.
#[inline(always)]
fn pass<T: Real>(gate: T, value: T) -> T {
    if gate <= T::zero() { T::zero() } else { value }
}

/// Calls `term(element, index within the period)` and adds what it answers to the two sums at that index. Where the
/// period is one chunk, the sums stay in registers.
#[inline(always)]
fn accumulate<T: Real>(
    len: usize,
    first: &mut [T],
    second: &mut [T],
    look_ahead: impl Fn(usize),
    term: impl Fn(usize, usize) -> (T, T),
) {
    let period = first.len();
    if period == CHUNK && len.is_multiple_of(CHUNK) {
        let (mut a, mut b) = ([T::zero(); CHUNK], [T::zero(); CHUNK]);
        for start in (0..len).step_by(CHUNK) {
            look_ahead(start);
            for lane in 0..CHUNK {
                let (x, y) = term(start + lane, lane);
                a[lane] += x;
                b[lane] += y;
            }
        }
        first.copy_from_slice(&a);
        second.copy_from_slice(&b);
        return;
    }
    for start in (0..len).step_by(period) {
        let end = period.min(len - start);
        for (lane, (a, b)) in first[..end].iter_mut().zip(&mut second[..end]).enumerate() {
            let (x, y) = term(start + lane, lane);
            *a += x;
            *b += y;
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn shifted_sums<E: Stored>(x: &[E], shift: &[E::Real], first: &mut [E::Real], second: &mut [E::Real]) {
    let shift = &shift[..first.len()];
    accumulate(
        x.len(),
        first,
        second,
        |start| prefetch(&x[start..start + CHUNK]),
        |index, lane| {
            let value = x[index].load() - shift[lane];
            (value, value * value)
        },
    );
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn gated_sums<E: Stored>(
    x: &[E],
    dy: &[E],
    scale: &[E::Real],
    shift: &[E::Real],
    center: &[E::Real],
    first: &mut [E::Real],
    second: &mut [E::Real],
) {
    let period = first.len();
    let (dy, scale, shift, center) = (&dy[..x.len()], &scale[..period], &shift[..period], &center[..period]);
    let ahead = |start| {
        prefetch(&x[start..start + CHUNK]);
        prefetch(&dy[start..start + CHUNK]);
    };
    accumulate(x.len(), first, second, ahead, |index, lane| {
        let x = x[index].load();
        let passed = pass(x * scale[lane] + shift[lane], dy[index].load());
        (passed, passed * (x - center[lane]))
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn masked_sums<E: Stored>(
    x: &[E],
    dy: &[E],
    y: &[E],
    center: &[E::Real],
    first: &mut [E::Real],
    second: &mut [E::Real],
) {
    let (dy, y, center) = (&dy[..x.len()], &y[..x.len()], &center[..first.len()]);
    let ahead = |start| {
        prefetch(&x[start..start + CHUNK]);
        prefetch(&dy[start..start + CHUNK]);
        prefetch(&y[start..start + CHUNK]);
    };
    accumulate(x.len(), first, second, ahead, |index, lane| {
        let passed = pass(y[index].load(), dy[index].load());
        (passed, passed * (x[index].load() - center[lane]))
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn apply<E: Stored>(x: &[E], y: &mut [E], scale: &[E::Real], shift: &[E::Real]) {
    for (x, y) in x.chunks(scale.len()).zip(y.chunks_mut(scale.len())) {
        for (((&x, y), &scale), &shift) in x.iter().zip(y).zip(scale).zip(shift) {
            let value = x.load() * scale + shift;
            *y = E::store(pass(value, value));
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn apply_add<E: Stored>(x: &[E], residual: &[E], y: &mut [E], scale: &[E::Real], shift: &[E::Real]) {
    let inputs = x.chunks(scale.len()).zip(residual.chunks(scale.len()));
    for ((x, residual), y) in inputs.zip(y.chunks_mut(scale.len())) {
        for ((((&x, &r), y), &scale), &shift) in x.iter().zip(residual).zip(y).zip(scale).zip(shift) {
            let value = x.load() * scale + shift + r.load();
            *y = E::store(pass(value, value));
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn gated_gradient<E: Stored>(
    x: &[E],
    dy: &[E],
    dx: &mut [E],
    scale: &[E::Real],
    shift: &[E::Real],
    coefficients: [&[E::Real]; 3],
) {
    let period = scale.len();
    let [a, b, c] = coefficients;
    for ((x, dy), dx) in x.chunks(period).zip(dy.chunks(period)).zip(dx.chunks_mut(period)) {
        let n = x.len();
        let (dy, dx, scale, shift) = (&dy[..n], &mut dx[..n], &scale[..n], &shift[..n]);
        let (a, b, c) = (&a[..n], &b[..n], &c[..n]);
        for lane in 0..n {
            let x = x[lane].load();
            let passed = pass(x * scale[lane] + shift[lane], dy[lane].load());
            dx[lane] = E::store(a[lane] * passed + b[lane] * x + c[lane]);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn masked_gradient<E: Stored>(
    x: &[E],
    dy: &[E],
    y: &[E],
    dx: &mut [E],
    passed: &mut [E],
    coefficients: [&[E::Real]; 3],
) {
    let [a, b, c] = coefficients;
    let period = a.len();
    let inputs = x.chunks(period).zip(dy.chunks(period)).zip(y.chunks(period));
    for ((((x, dy), y), dx), passed) in inputs.zip(dx.chunks_mut(period)).zip(passed.chunks_mut(period)) {
        let n = x.len();
        let (dy, y, dx, passed) = (&dy[..n], &y[..n], &mut dx[..n], &mut passed[..n]);
        let (a, b, c) = (&a[..n], &b[..n], &c[..n]);
        for lane in 0..n {
            let gradient = pass(y[lane].load(), dy[lane].load());
            passed[lane] = E::store(gradient);
            dx[lane] = E::store(a[lane] * gradient + b[lane] * x[lane].load() + c[lane]);
        }
    }
}
