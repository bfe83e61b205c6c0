//! Batch norm + ReLU, and batch norm + addition + ReLU, forward and backward, over channels-last activations.
//!
//! Done one after the other these are three passes over memory forward and four backward; here there are two and two:
//! one that sums, one that writes. Activations are seen as rows of `channels` numbers. Narrow rows are worked on several
//! at a time (*a period*), so that the vector units are always full.

use multiversion::multiversion;

use super::memory::{CHUNK, prefetch};
use super::slab::{Real, Slab};
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
pub fn batch_moments<T: Real>(rows: Rows, x: Slab<T>) -> Vec<(f64, f64)> {
    // SAFETY: activations are only read.
    let origin: Vec<f64> = unsafe { x.read(0..rows.channels) }.iter().map(|value| value.wide()).collect();
    let shift: Vec<T> = rows.repeat(|channel| origin[channel]);
    let sums = channel_sums(rows, |range, first, second| shifted_sums(unsafe { x.read(range) }, &shift, first, second));
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
pub fn scale_shift_relu<T: Real>(
    rows: Rows,
    x: Slab<T>,
    residual: Option<Slab<T>>,
    y: Slab<T>,
    coefficient: impl Fn(usize) -> (f64, f64),
) {
    let scale: Vec<T> = rows.repeat(|channel| coefficient(channel).0);
    let shift: Vec<T> = rows.repeat(|channel| coefficient(channel).1);
    parallel_for(rows.blocks(), |block| {
        let range = || rows.range(block);
        // SAFETY: blocks are disjoint, and y is a new tensor.
        let (x, y) = unsafe { (x.read(range()), y.write(range())) };
        match residual {
            None => apply(x, y, &scale, &shift),
            Some(residual) => apply_add(x, unsafe { residual.read(range()) }, y, &scale, &shift),
        }
    });
}

/// What of the output decides where the gradient passes the ReLU.
#[derive(Clone, Copy)]
pub enum Gate<'a, T> {
    /// Where scale x + shift is above 0, recomputed: nothing more to read.
    Input { scale: &'a [f64], shift: &'a [f64] },
    /// Where y is above 0, for outputs that a residual was added to.
    Output(Slab<T>),
}

/// For each channel: the sums of dy and of dy (x - mean), dy being the gradient that passed the ReLU.
pub fn gradient_sums<T: Real>(rows: Rows, x: Slab<T>, dy: Slab<T>, gate: Gate<'_, T>, mean: &[f64]) -> Vec<[f64; 2]> {
    let center: Vec<T> = rows.repeat(|channel| mean[channel]);
    let gate = PeriodicGate::new(rows, gate);
    channel_sums(rows, |range, first, second| {
        // SAFETY: all are only read.
        let (x, dy) = unsafe { (x.read(range.clone()), dy.read(range.clone())) };
        match &gate {
            PeriodicGate::Input { scale, shift } => gated_sums(x, dy, scale, shift, &center, first, second),
            PeriodicGate::Output(y) => masked_sums(x, dy, unsafe { y.read(range) }, &center, first, second),
        }
    })
}

/// `dx = a dy + b x + c` with the three coefficients of each channel, dy being the gradient that passed the ReLU; where a
/// residual was added, its gradient is dy itself.
pub fn input_gradient<T: Real>(
    rows: Rows,
    x: Slab<T>,
    dy: Slab<T>,
    gate: Gate<'_, T>,
    coefficient: impl Fn(usize) -> [f64; 3],
    dx: Slab<T>,
    residual_gradient: Option<Slab<T>>,
) {
    let [a, b, c] = [0, 1, 2].map(|part| rows.repeat::<T>(|channel| coefficient(channel)[part]));
    let gate = PeriodicGate::new(rows, gate);
    parallel_for(rows.blocks(), |block| {
        let range = || rows.range(block);
        // SAFETY: blocks are disjoint, dx and the residual's gradient are new tensors.
        let (x, dy, dx) = unsafe { (x.read(range()), dy.read(range()), dx.write(range())) };
        match (&gate, residual_gradient) {
            (PeriodicGate::Input { scale, shift }, _) => gated_gradient(x, dy, dx, scale, shift, [&a, &b, &c]),
            (PeriodicGate::Output(y), Some(passed)) => {
                let (y, passed) = unsafe { (y.read(range()), passed.write(range())) };
                masked_gradient(x, dy, y, dx, passed, [&a, &b, &c]);
            }
            (PeriodicGate::Output(y), None) => {
                let mut passed = vec![T::zero(); x.len()];
                masked_gradient(x, dy, unsafe { y.read(range()) }, dx, &mut passed, [&a, &b, &c]);
            }
        }
    });
}

enum PeriodicGate<T> {
    Input { scale: Vec<T>, shift: Vec<T> },
    Output(Slab<T>),
}

impl<T: Real> PeriodicGate<T> {
    fn new(rows: Rows, gate: Gate<'_, T>) -> Self {
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
fn shifted_sums<T: Real>(x: &[T], shift: &[T], first: &mut [T], second: &mut [T]) {
    let shift = &shift[..first.len()];
    accumulate(
        x.len(),
        first,
        second,
        |start| prefetch(&x[start..start + CHUNK]),
        |index, lane| {
            let value = x[index] - shift[lane];
            (value, value * value)
        },
    );
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn gated_sums<T: Real>(x: &[T], dy: &[T], scale: &[T], shift: &[T], center: &[T], first: &mut [T], second: &mut [T]) {
    let period = first.len();
    let (dy, scale, shift, center) = (&dy[..x.len()], &scale[..period], &shift[..period], &center[..period]);
    let ahead = |start| {
        prefetch(&x[start..start + CHUNK]);
        prefetch(&dy[start..start + CHUNK]);
    };
    accumulate(x.len(), first, second, ahead, |index, lane| {
        let passed = pass(x[index] * scale[lane] + shift[lane], dy[index]);
        (passed, passed * (x[index] - center[lane]))
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn masked_sums<T: Real>(x: &[T], dy: &[T], y: &[T], center: &[T], first: &mut [T], second: &mut [T]) {
    let (dy, y, center) = (&dy[..x.len()], &y[..x.len()], &center[..first.len()]);
    let ahead = |start| {
        prefetch(&x[start..start + CHUNK]);
        prefetch(&dy[start..start + CHUNK]);
        prefetch(&y[start..start + CHUNK]);
    };
    accumulate(x.len(), first, second, ahead, |index, lane| {
        let passed = pass(y[index], dy[index]);
        (passed, passed * (x[index] - center[lane]))
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn apply<T: Real>(x: &[T], y: &mut [T], scale: &[T], shift: &[T]) {
    for (x, y) in x.chunks(scale.len()).zip(y.chunks_mut(scale.len())) {
        for (((&x, y), &scale), &shift) in x.iter().zip(y).zip(scale).zip(shift) {
            let value = x * scale + shift;
            *y = pass(value, value);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn apply_add<T: Real>(x: &[T], residual: &[T], y: &mut [T], scale: &[T], shift: &[T]) {
    let inputs = x.chunks(scale.len()).zip(residual.chunks(scale.len()));
    for ((x, residual), y) in inputs.zip(y.chunks_mut(scale.len())) {
        for ((((&x, &r), y), &scale), &shift) in x.iter().zip(residual).zip(y).zip(scale).zip(shift) {
            let value = x * scale + shift + r;
            *y = pass(value, value);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn gated_gradient<T: Real>(x: &[T], dy: &[T], dx: &mut [T], scale: &[T], shift: &[T], coefficients: [&[T]; 3]) {
    let period = scale.len();
    let [a, b, c] = coefficients;
    for ((x, dy), dx) in x.chunks(period).zip(dy.chunks(period)).zip(dx.chunks_mut(period)) {
        let n = x.len();
        let (dy, dx, scale, shift) = (&dy[..n], &mut dx[..n], &scale[..n], &shift[..n]);
        let (a, b, c) = (&a[..n], &b[..n], &c[..n]);
        for lane in 0..n {
            let passed = pass(x[lane] * scale[lane] + shift[lane], dy[lane]);
            dx[lane] = a[lane] * passed + b[lane] * x[lane] + c[lane];
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn masked_gradient<T: Real>(x: &[T], dy: &[T], y: &[T], dx: &mut [T], passed: &mut [T], coefficients: [&[T]; 3]) {
    let [a, b, c] = coefficients;
    let period = a.len();
    let inputs = x.chunks(period).zip(dy.chunks(period)).zip(y.chunks(period));
    for ((((x, dy), y), dx), passed) in inputs.zip(dx.chunks_mut(period)).zip(passed.chunks_mut(period)) {
        let n = x.len();
        let (dy, y, dx, passed) = (&dy[..n], &y[..n], &mut dx[..n], &mut passed[..n]);
        let (a, b, c) = (&a[..n], &b[..n], &c[..n]);
        for lane in 0..n {
            let gradient = pass(y[lane], dy[lane]);
            passed[lane] = gradient;
            dx[lane] = a[lane] * gradient + b[lane] * x[lane] + c[lane];
        }
    }
}
