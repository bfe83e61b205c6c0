//! 3 x 3 convolutions with stride 1 and padding 1 by Winograd's F(4 x 4, 3 x 3) (Lavin 2016): 36 products make 16 outputs
//! that take 144 directly. Forward, for the input's gradient and for the weights', over float32 and bfloat16, computed in
//! float32.
//!
//! A block of tiles goes through all of it while it lies in the second-level cache. Each output tile depends on its window
//! alone, and weight gradients are summed in an order that the batch fixes, so that threads change nothing.

use super::lanes::Lanes;
use super::{Convolution, KERNEL, LANES};
use crate::cpu::scratch::Scratch;
use crate::cpu::slab::Slab;
use crate::parallel_for;

use super::products::{ROWS, outer_product, product};
use super::tiles::{self, Domain, Grid, POINTS, TILE, WINDOW};

use std::arch::x86_64::*;
use std::array::from_fn;

/// Transforming the filters pays off from so many tiles on.
const LEAST_TILES: usize = 64;
/// Up to so many weights at a point a block of tiles goes through all of it at once; more would not stay in the cache.
const FEW_WEIGHTS: usize = 128 * 128;
/// Up to so many weights at a point tasks sum weight gradients of their own; more would take long to add up.
const FEW_SUMS: usize = 32 * 64;
const TASKS: usize = 8;
/// Numbers in Winograd's domain at a time if there are more weights.
const MOST_NUMBERS: usize = 8 << 20;
/// Tiles whose products are added up before their sums go back to memory.
const DEPTH: usize = 96;

impl Convolution {
    /// Whether this file's functions are made for it, on this processor.
    pub fn suits_winograd(&self) -> bool {
        let [height, width] = self.input;
        let tiles = self.grid(1).tiles();
        self.has_full_vectors()
            && [self.stride, self.padding] == [1, 1]
            && self.output == self.input
            && 2 * height * width >= tiles * TILE * TILE
            && self.batch * tiles >= LEAST_TILES
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
    }

    /// Whether the filters at a point of Winograd's domain stay in the cache.
    pub fn has_few_weights(&self) -> bool {
        self.in_channels * self.out_channels <= FEW_WEIGHTS
    }

    fn grid(&self, channels: usize) -> Grid {
        Grid { height: self.input[0], width: self.input[1], channels }
    }

    fn tiles(&self) -> usize {
        self.batch * self.grid(1).tiles()
    }

    /// Tiles that are in Winograd's domain at a time where there are many channels.
    fn part(&self) -> usize {
        let most = MOST_NUMBERS / (POINTS * (self.in_channels + self.out_channels)) / ROWS * ROWS;
        most.clamp(ROWS, self.tiles().next_multiple_of(ROWS))
    }
}

/// Writes y `[batch, height, width, out]` from x `[batch, height, width, in]` and weights `[out, 3, 3, in]`.
///
/// # Panics
/// If the arrays are not of the convolution's sizes, or it does not suit.
pub fn forward<E: Lanes>(convolution: &Convolution, x: Slab<E>, weight: Slab<E>, y: Slab<E>) {
    let Convolution { in_channels, out_channels, .. } = *convolution;
    let filters = Filters::transform(convolution, weight, Side::Output);
    convolve(convolution, x, &filters, y, [in_channels, out_channels]);
}

/// Writes dx from dy: the convolution of dy with the filters turned around, from the output's channels to the input's.
///
/// # Panics
/// As [`forward`].
pub fn input_gradient<E: Lanes>(convolution: &Convolution, dy: Slab<E>, weight: Slab<E>, dx: Slab<E>) {
    let Convolution { in_channels, out_channels, .. } = *convolution;
    let filters = Filters::transform(convolution, weight, Side::Input);
    convolve(convolution, dy, &filters, dx, [out_channels, in_channels]);
}

/// Writes dW `[out, 3, 3, in]` from x and dy.
///
/// # Panics
/// As [`forward`].
pub fn weight_gradient<E: Lanes>(convolution: &Convolution, x: Slab<E>, dy: Slab<E>, dw: Slab<E>) {
    let Convolution { in_channels, out_channels, .. } = *convolution;
    assert!(convolution.suits_winograd());
    assert_eq!([x.len(), dy.len()], [convolution.input_len(), convolution.output_len()]);
    assert_eq!(dw.len(), convolution.weight_len());
    let sums = match in_channels * out_channels <= FEW_SUMS {
        true => sums_by_tasks(convolution, x, dy),
        false => sums_by_points(convolution, x, dy),
    };
    let blocks = [in_channels, out_channels].map(|channels| channels / LANES);
    parallel_for(blocks[0] * blocks[1], |block| {
        let place = [block / blocks[1], block % blocks[1]].map(|index| index * LANES);
        // SAFETY: each block has weights of its own; the processor was checked.
        unsafe { filter_gradients(&sums, place, [in_channels, out_channels], dw.start()) };
    });
}

/// y = x * filters, `[from, to]` channels.
fn convolve<E: Lanes>(convolution: &Convolution, x: Slab<E>, filters: &Filters, y: Slab<E>, channels: [usize; 2]) {
    let [from, to] = channels;
    let [height, width] = convolution.input;
    let pixels = convolution.batch * height * width;
    assert!(convolution.suits_winograd());
    assert_eq!([x.len(), y.len()], [pixels * from, pixels * to]);
    match convolution.has_few_weights() {
        true => convolve_by_blocks(convolution, x, filters, y, channels),
        false => convolve_by_points(convolution, x, filters, y, channels),
    }
}

/// Each task takes a block of tiles through all of it.
fn convolve_by_blocks<E: Lanes>(
    convolution: &Convolution,
    x: Slab<E>,
    filters: &Filters,
    y: Slab<E>,
    [from, to]: [usize; 2],
) {
    let total = convolution.tiles();
    let [source, target] = [from, to].map(|channels| Domain { tiles: ROWS, channels });
    parallel_for(total.div_ceil(ROWS), |block| {
        let first = block * ROWS;
        let count = ROWS.min(total - first);
        let [mut v, mut m] = [source, target].map(|domain| Scratch::<f32>::new(domain.len()));
        // SAFETY: sizes and processor were checked; x is only read, and each block writes tiles of its own.
        unsafe {
            tiles::windows(convolution.grid(from), x.all(), first, count, source, v.as_mut_ptr());
            for point in 0..POINTS {
                let (v, m) = (v.as_ptr().add(point * ROWS * from), m.as_mut_ptr().add(point * ROWS * to));
                product(v, filters.at(point), m, ROWS, [from, to]);
            }
            tiles::outputs(convolution.grid(to), m.as_ptr(), first, count, target, y.start());
        }
    });
}

/// All tiles are transformed, then each task has the filters of a point of its own: many weights are read only once.
fn convolve_by_points<E: Lanes>(
    convolution: &Convolution,
    x: Slab<E>,
    filters: &Filters,
    y: Slab<E>,
    [from, to]: [usize; 2],
) {
    let (total, part) = (convolution.tiles(), convolution.part());
    let [source, target] = [from, to].map(|channels| Domain { tiles: part, channels });
    let [mut v, mut m] = [source, target].map(|domain| Scratch::<f32>::new(domain.len()));
    let [v, m] = [&mut v, &mut m].map(|numbers| Slab::from_raw(numbers.as_mut_ptr(), numbers.len()));
    for start in (0..total).step_by(part) {
        let count = part.min(total - start);
        let block = |block: usize| (block * ROWS, ROWS.min(count - block * ROWS));
        // SAFETY: sizes and processor were checked; x is only read, each block has tiles and each task a point of its own.
        parallel_for(count.div_ceil(ROWS), |index| unsafe {
            let (first, count) = block(index);
            tiles::windows(convolution.grid(from), x.all(), start + first, count, source, v.start().add(first * from));
        });
        parallel_for(POINTS, |point| unsafe {
            let (v, m) = (v.start().add(point * part * from), m.start().add(point * part * to));
            product(v, filters.at(point), m, count.next_multiple_of(ROWS), [from, to]);
        });
        parallel_for(count.div_ceil(ROWS), |index| unsafe {
            let (first, count) = block(index);
            let m = m.start().add(first * to);
            tiles::outputs(convolution.grid(to), m, start + first, count, target, y.start());
        });
    }
}

/// Which channels lie in the lanes of transformed filters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// `[point, in, out]`.
    Output,
    /// `[point, out, in]`, of filters turned around.
    Input,
}

/// Filters in Winograd's domain.
struct Filters {
    values: Scratch<f32>,
    /// Numbers at one point.
    weights: usize,
}

impl Filters {
    fn transform<E: Lanes>(convolution: &Convolution, weight: Slab<E>, side: Side) -> Self {
        let Convolution { in_channels, out_channels, .. } = *convolution;
        assert!(convolution.suits_winograd() && weight.len() == convolution.weight_len());
        let weights = in_channels * out_channels;
        let mut values = Scratch::new(POINTS * weights);
        let out = Slab::from_raw(values.as_mut_ptr(), values.len());
        parallel_for(out_channels / LANES, |block| {
            let weight = unsafe { weight.all() };
            // SAFETY: the processor was checked; each block has places of its own, which together are all.
            unsafe {
                match side {
                    Side::Output => filters_by_output(weight, block * LANES, [in_channels, out_channels], out.start()),
                    Side::Input => filters_by_input(weight, block * LANES, [in_channels, out_channels], out.start()),
                }
            }
        });
        Self { values, weights }
    }

    fn at(&self, point: usize) -> *const f32 {
        self.values[point * self.weights..].as_ptr()
    }
}

/// Transforms of sixteen output channels, `[point, in, out]`.
///
/// # Safety
/// AVX-512 (F, BW, VL); the arrays hold whole filters and their transforms.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn filters_by_output<E: Lanes>(
    weight: &[E],
    first: usize,
    [in_channels, out_channels]: [usize; 2],
    out: *mut f32,
) {
    for input in (0..in_channels).step_by(LANES) {
        // [point, in, out] of the block.
        let mut turned = [[[0f32; LANES]; LANES]; POINTS];
        for lane in 0..LANES {
            let points = unsafe { tiles::filter(taps(weight, first + lane, input, in_channels)) };
            for (turned, values) in turned.iter_mut().zip(points.into_iter().flatten()) {
                let mut inputs = [0f32; LANES];
                unsafe { _mm512_storeu_ps(inputs.as_mut_ptr(), values) };
                for (turned, value) in turned.iter_mut().zip(inputs) {
                    turned[lane] = value;
                }
            }
        }
        for (point, inputs) in turned.iter().enumerate() {
            for (lane, outs) in inputs.iter().enumerate() {
                let place = (point * in_channels + input + lane) * out_channels + first;
                unsafe { _mm512_storeu_ps(out.add(place), _mm512_loadu_ps(outs.as_ptr())) };
            }
        }
    }
}

/// Transforms of sixteen output channels' filters turned around, `[point, out, in]`.
///
/// # Safety
/// As for [`filters_by_output`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn filters_by_input<E: Lanes>(
    weight: &[E],
    first: usize,
    [in_channels, out_channels]: [usize; 2],
    out: *mut f32,
) {
    for channel in first..first + LANES {
        for input in (0..in_channels).step_by(LANES) {
            let mut taps = unsafe { taps(weight, channel, input, in_channels) };
            taps.reverse();
            taps.iter_mut().for_each(|row| row.reverse());
            for (point, values) in tiles::filter(taps).into_iter().flatten().enumerate() {
                let place = (point * out_channels + channel) * in_channels + input;
                unsafe { _mm512_storeu_ps(out.add(place), values) };
            }
        }
    }
}

/// The taps of one output and sixteen input channels.
///
/// # Safety
/// As for [`filters_by_output`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
unsafe fn taps<E: Lanes>(weight: &[E], channel: usize, input: usize, in_channels: usize) -> [[__m512; KERNEL]; KERNEL] {
    from_fn(|row| {
        from_fn(|column| {
            let place = ((channel * KERNEL + row) * KERNEL + column) * in_channels + input;
            unsafe { E::load(weight[place..place + LANES].as_ptr(), true) }
        })
    })
}

/// Sums of products at each point, `[task, point, in, out]`: each task has tiles of its own.
fn sums_by_tasks<E: Lanes>(convolution: &Convolution, x: Slab<E>, dy: Slab<E>) -> Scratch<f32> {
    let Convolution { in_channels, out_channels, .. } = *convolution;
    let (total, weights) = (convolution.tiles(), in_channels * out_channels);
    let mut sums = Scratch::new(TASKS * POINTS * weights);
    let out = Slab::from_raw(sums.as_mut_ptr(), sums.len());
    parallel_for(TASKS, |task| {
        let [source, target] = [in_channels, out_channels].map(|channels| Domain { tiles: ROWS, channels });
        let [mut v, mut e] = [source, target].map(|domain| Scratch::<f32>::new(domain.len()));
        let end = (task + 1) * total / TASKS;
        // SAFETY: sizes and processor were checked; x and dy are only read, and each task has sums of its own.
        unsafe {
            let sums = out.write(task * POINTS * weights..(task + 1) * POINTS * weights);
            sums.fill(0.0);
            for first in (task * total / TASKS..end).step_by(ROWS) {
                let count = ROWS.min(end - first);
                tiles::windows(convolution.grid(in_channels), x.all(), first, count, source, v.as_mut_ptr());
                tiles::gradients(convolution.grid(out_channels), dy.all(), first, count, target, e.as_mut_ptr());
                for point in 0..POINTS {
                    let (v, e) =
                        (v.as_ptr().add(point * ROWS * in_channels), e.as_ptr().add(point * ROWS * out_channels));
                    let sums = sums.as_mut_ptr().add(point * weights);
                    outer_product(v, e, sums, count, [in_channels, out_channels]);
                }
            }
        }
    });
    sums
}

/// The same, `[point, in, out]`: each task has a point of its own, so that many weights are summed only once.
fn sums_by_points<E: Lanes>(convolution: &Convolution, x: Slab<E>, dy: Slab<E>) -> Scratch<f32> {
    let Convolution { in_channels, out_channels, .. } = *convolution;
    let (total, part, weights) = (convolution.tiles(), convolution.part(), in_channels * out_channels);
    let [source, target] = [in_channels, out_channels].map(|channels| Domain { tiles: part, channels });
    let [mut v, mut e] = [source, target].map(|domain| Scratch::<f32>::new(domain.len()));
    let mut sums = Scratch::new(POINTS * weights);
    let out = Slab::from_raw(sums.as_mut_ptr(), sums.len());
    let [all_v, all_e] = [&mut v, &mut e].map(|numbers| Slab::from_raw(numbers.as_mut_ptr(), numbers.len()));
    for start in (0..total).step_by(part) {
        let end = total.min(start + part);
        parallel_for((end - start).div_ceil(ROWS), |block| {
            let first = start + block * ROWS;
            let count = ROWS.min(end - first);
            // SAFETY: sizes and processor were checked; x and dy are only read, and each block has tiles of its own.
            unsafe {
                let place = |domain: Domain| (first - start) * domain.channels;
                let (v, e) = (all_v.start().add(place(source)), all_e.start().add(place(target)));
                tiles::windows(convolution.grid(in_channels), x.all(), first, count, source, v);
                tiles::gradients(convolution.grid(out_channels), dy.all(), first, count, target, e);
            }
        });
        parallel_for(POINTS, |point| {
            // SAFETY: each point has sums of its own.
            let sums = unsafe { out.write(point * weights..(point + 1) * weights) };
            if start == 0 {
                sums.fill(0.0);
            }
            for tile in (start..end).step_by(DEPTH) {
                let place = |domain: Domain| (point * part + tile - start) * domain.channels;
                // SAFETY: both domains are complete.
                unsafe {
                    let (v, e) = (all_v.start().add(place(source)), all_e.start().add(place(target)));
                    outer_product(v, e, sums.as_mut_ptr(), DEPTH.min(end - tile), [in_channels, out_channels]);
                }
            }
        });
    }
    sums
}

/// dW of sixteen input times sixteen output channels: the tasks' sums, added in order, and transformed back.
///
/// # Safety
/// AVX-512 (F, BW, VL); the arrays have these sizes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn filter_gradients<E: Lanes>(
    sums: &[f32],
    [input, out]: [usize; 2],
    [in_channels, out_channels]: [usize; 2],
    dw: *mut E,
) {
    let weights = in_channels * out_channels;
    // [tap, out, in] of the block.
    let mut turned = [[[0f32; LANES]; LANES]; KERNEL * KERNEL];
    for lane in 0..LANES {
        let point = |row: usize, column: usize| {
            let place = (row * WINDOW + column) * weights + (input + lane) * out_channels + out;
            let mut tasks = sums.chunks_exact(POINTS * weights).map(|sums| {
                let values = &sums[place..place + LANES];
                // SAFETY: as many elements as lanes.
                unsafe { _mm512_loadu_ps(values.as_ptr()) }
            });
            let first = tasks.next().unwrap_or_else(|| _mm512_setzero_ps());
            tasks.fold(first, |sum, part| _mm512_add_ps(sum, part))
        };
        let taps = tiles::filter_gradient(from_fn(|row| from_fn(|column| point(row, column))));
        for (turned, values) in turned.iter_mut().zip(taps.into_iter().flatten()) {
            let mut outs = [0f32; LANES];
            unsafe { _mm512_storeu_ps(outs.as_mut_ptr(), values) };
            for (turned, value) in turned.iter_mut().zip(outs) {
                turned[lane] = value;
            }
        }
    }
    for (tap, outs) in turned.iter().enumerate() {
        for (lane, inputs) in outs.iter().enumerate() {
            let place = ((out + lane) * KERNEL * KERNEL + tap) * in_channels + input;
            unsafe { E::store(dw.add(place), _mm512_loadu_ps(inputs.as_ptr())) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Generator, channels_last};
    use half::bf16;
    use tch::{Device, Kind, Tensor};

    fn random(shape: [usize; 4], kind: Kind, seed: u64) -> Tensor {
        let mut values = Tensor::empty(shape.map(|size| size as i64), (Kind::Float, Device::Cpu));
        Generator::new(seed).unwrap().normal_(&mut values, 0.0, 1.0).unwrap();
        channels_last(&values.to_kind(kind)).unwrap()
    }

    fn distance(found: &Tensor, expected: &Tensor) -> f64 {
        let found = found.to_kind(Kind::Double);
        f64::try_from((found - expected).norm() / expected.norm()).unwrap()
    }

    /// Forward, dx and dW against libtorch in float64.
    fn check<E: Lanes>(batch: usize, [inputs, outputs]: [usize; 2], input: [usize; 2], bound: f64) {
        let convolution = Convolution {
            batch,
            input,
            output: input,
            in_channels: inputs,
            out_channels: outputs,
            stride: 1,
            padding: 1,
        };
        if !is_x86_feature_detected!("avx512vl") {
            return;
        }
        assert!(convolution.suits_winograd(), "{convolution:?}");
        let [height, width] = input;
        let x = random([batch, inputs, height, width], E::KIND, 1);
        let weight = random([outputs, inputs, 3, 3], E::KIND, 2);
        let dy = random([batch, outputs, height, width], E::KIND, 3);
        let [y, dx, dw] = [&dy, &x, &weight].map(|like| like.full_like(f64::NAN));
        forward::<E>(&convolution, Slab::of(&x), Slab::of(&weight), Slab::of(&y));
        input_gradient::<E>(&convolution, Slab::of(&dy), Slab::of(&weight), Slab::of(&dx));
        weight_gradient::<E>(&convolution, Slab::of(&x), Slab::of(&dy), Slab::of(&dw));
        let [x, weight] = [x, weight].map(|tensor| tensor.to_kind(Kind::Double).set_requires_grad(true));
        let expected = x.conv2d(&weight, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1);
        (&expected * dy.to_kind(Kind::Double)).sum(Kind::Double).backward();
        for (found, expected) in [(y, expected.detach()), (dx, x.grad()), (dw, weight.grad())] {
            let error = distance(&found, &expected);
            assert!(error < bound, "{convolution:?}: {error}");
        }
    }

    #[test]
    fn values_and_gradients_are_the_convolutions() {
        for (batch, channels, input) in [
            (2, [16, 16], [32, 32]),
            (25, [32, 16], [8, 8]),
            (9, [16, 48], [13, 9]),
            (97, [64, 32], [4, 4]),
            (24, [160, 112], [7, 6]),
        ] {
            check::<f32>(batch, channels, input, 3e-6);
            check::<bf16>(batch, channels, input, 1.0 / 256.0);
        }
    }

    #[test]
    fn threads_change_nothing() {
        let convolution = Convolution {
            batch: 11,
            input: [12, 12],
            output: [12, 12],
            in_channels: 16,
            out_channels: 32,
            stride: 1,
            padding: 1,
        };
        if !convolution.suits_winograd() {
            return;
        }
        let (x, dy) = (random([11, 16, 12, 12], Kind::Float, 1), random([11, 32, 12, 12], Kind::Float, 2));
        let gradients = [1, 2, 3].map(|threads| {
            let dw = random([32, 16, 3, 3], Kind::Float, 3);
            crate::runtime::with_num_threads(threads, || {
                weight_gradient::<f32>(&convolution, Slab::of(&x), Slab::of(&dy), Slab::of(&dw));
            });
            dw
        });
        assert_eq!(gradients[0], gradients[1]);
        assert_eq!(gradients[0], gradients[2]);
    }
}
