//! The weight gradient of a 3 x 3 convolution over bfloat16 images, channels-last, for few channels, where libtorch's own is
//! slow (with stride 2 and several threads above all).
//!
//! dW[o, y, x, i] = sum over images and output pixels of dy[o] at the pixel times the input's channel i that tap (y, x)
//! sees from there. AVX-512 multiplies pairs of bfloat16 and adds them up in float32, so pixels are paired along a row: once
//! packed so, a vector of output channels times one input channel is one instruction. Sums stay in registers for all pixels
//! of a few images; each task sums images of its own, and tasks are added in order, so that threads change nothing.

use std::array::from_fn;
use std::ops::Range;

use half::bf16;

use super::{Convolution, KERNEL, LANES};
use crate::cpu::slab::Slab;
use crate::cpu::stored::Stored;
use crate::parallel_for;

/// Images are divided among so many tasks.
const TASKS: usize = 8;
/// Pairs of pixels that a tile of sums goes through at least before it is put away.
const PAIRS: usize = 256;

impl Convolution {
    /// Whether [`weight_gradient`] is made for it, on this processor.
    pub fn can_pair(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.has_full_vectors()
            && self.weight_len() <= MOST_WEIGHTS
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }

    /// Pairs of output pixels in a row; the last one of an odd width has a zero in it.
    fn pairs(&self) -> usize {
        self.output[1].div_ceil(2)
    }

    /// Output channels of a tile, in vectors.
    fn vectors(&self) -> usize {
        if self.out_channels.is_multiple_of(2 * LANES) { 2 } else { 1 }
    }

    /// Images packed at a time.
    fn group(&self) -> usize {
        PAIRS.div_ceil(self.output[0] * self.pairs())
    }

    fn images_of(&self, task: usize) -> Range<usize> {
        task * self.batch / TASKS..(task + 1) * self.batch / TASKS
    }
}

/// Above this, libtorch's kernel is the better one: the sums of a task leave the cache.
const MOST_WEIGHTS: usize = 1 << 18;

/// Writes dW `[out, height, width, in]` from x and dy, all dense and channels-last.
///
/// # Panics
/// If the arrays are not of the convolution's sizes, or it is not supported.
pub fn weight_gradient(convolution: &Convolution, x: Slab<bf16>, dy: Slab<bf16>, dw: Slab<bf16>) {
    let Convolution { in_channels, out_channels, .. } = *convolution;
    assert!(convolution.can_pair());
    let weights = convolution.weight_len();
    assert_eq!([x.len(), dy.len(), dw.len()], [convolution.input_len(), convolution.output_len(), weights]);
    let mut partial = vec![0f32; TASKS * weights];
    let sums = Slab::from_raw(partial.as_mut_ptr(), partial.len());
    #[cfg(target_arch = "x86_64")]
    parallel_for(TASKS, |task| {
        // SAFETY: each task has sums of its own; x and dy are only read; the processor was checked.
        let sums = unsafe { sums.write(task * weights..(task + 1) * weights) };
        let (x, dy) = unsafe { (x.all(), dy.all()) };
        // Tiles of 24 sums in registers: three taps of a filter's row, input channels, vectors of output channels.
        match convolution.vectors() {
            2 => unsafe { x86::task::<2, 4>(convolution, x, dy, convolution.images_of(task), sums) },
            _ => unsafe { x86::task::<1, 8>(convolution, x, dy, convolution.images_of(task), sums) },
        }
    });
    // Sums lie as [height, width, in, out].
    let row = in_channels * out_channels;
    parallel_for(KERNEL * KERNEL, |tap| {
        // SAFETY: each tap writes elements of its own, which no other slice covers at the same time; sums are complete.
        let partial = unsafe { sums.all() };
        let mut total = partial[tap * row..(tap + 1) * row].to_vec();
        for task in 1..TASKS {
            let from = task * weights + tap * row;
            for (total, &part) in total.iter_mut().zip(&partial[from..from + row]) {
                *total += part;
            }
        }
        for out in 0..out_channels {
            let start = out * convolution.taps() + tap * in_channels;
            let filter = unsafe { dw.write(start..start + in_channels) };
            for (input, weight) in filter.iter_mut().enumerate() {
                *weight = bf16::store(total[input * out_channels + out]);
            }
        }
    });
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::bf16;

    use super::*;

    /// Pairs of pixels of some images: `[channel block, image, row, pair, tap, channel of the block]`, a u32 holding a
    /// channel of both pixels.
    struct Packed {
        values: Vec<u32>,
        /// Elements of one channel block, and of one row within it.
        block: usize,
        row: usize,
    }

    impl Packed {
        fn new(blocks: usize, rows: usize, row: usize) -> Self {
            let block = rows * row;
            Self { values: vec![0; blocks * block], block, row }
        }
    }

    /// Adds the images' share to `sums`, tiles of VECTORS vectors of output channels times INPUTS input channels.
    ///
    /// # Safety
    /// AVX-512 with bfloat16; the arrays are of the convolution's sizes.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn task<const VECTORS: usize, const INPUTS: usize>(
        convolution: &Convolution,
        x: &[bf16],
        dy: &[bf16],
        images: Range<usize>,
        sums: &mut [f32],
    ) {
        let &Convolution { input, output, in_channels, out_channels, stride, padding, .. } = convolution;
        let (group, pairs) = (convolution.group(), convolution.pairs());
        let outputs = VECTORS * LANES;
        let mut inputs = Packed::new(in_channels / INPUTS, group * input[0], pairs * KERNEL * INPUTS);
        let mut gradients = Packed::new(out_channels / outputs, group * output[0], pairs * outputs);
        // The columns of the input that a pair sees through each tap, and its own in the output.
        let own: Columns =
            (0..pairs).map(|pair| [0, 1].map(|pixel| Some(2 * pair + pixel).filter(|&c| c < output[1]))).collect();
        let see =
            |column: usize, tap: usize| Some((stride * column + tap).wrapping_sub(padding)).filter(|&c| c < input[1]);
        let taps = |pair: &[Option<usize>; 2]| {
            let pair = *pair;
            (0..KERNEL).map(move |tap| pair.map(|column| column.and_then(|column| see(column, tap))))
        };
        let seen: Columns = own.iter().flat_map(taps).collect();
        for start in images.clone().step_by(group) {
            let count = group.min(images.end - start);
            let size = input[0] * input[1] * in_channels;
            unsafe { pack::<INPUTS>(&x[start * size..][..count * size], input[1], in_channels, &seen, &mut inputs) };
            let size = output[0] * output[1] * out_channels;
            let images = &dy[start * size..][..count * size];
            match VECTORS {
                2 => unsafe { pack::<32>(images, output[1], out_channels, &own, &mut gradients) },
                _ => unsafe { pack::<16>(images, output[1], out_channels, &own, &mut gradients) },
            }
            // The rows that meet under each tap, as places within a channel block.
            let rows: [Vec<(usize, usize)>; KERNEL] = from_fn(|tap| {
                let rows = (0..count * output[0]).filter_map(|row| {
                    let line = (row % output[0] * stride + tap).wrapping_sub(padding);
                    let line_of_group = row / output[0] * input[0] + line;
                    (line < input[0]).then_some((line_of_group * inputs.row, row * gradients.row))
                });
                rows.collect()
            });
            for out_block in 0..out_channels / outputs {
                let gradients = &gradients.values[out_block * gradients.block..][..gradients.block];
                for in_block in 0..in_channels / INPUTS {
                    let inputs = &inputs.values[in_block * inputs.block..][..inputs.block];
                    for (tap, rows) in rows.iter().enumerate() {
                        let place =
                            (tap * KERNEL * in_channels + in_block * INPUTS) * out_channels + out_block * outputs;
                        let channels = [in_channels, out_channels];
                        unsafe {
                            tile::<VECTORS, INPUTS>(inputs, gradients, rows, pairs, &mut sums[place..], channels)
                        };
                    }
                }
            }
        }
    }

    /// One tile of sums over the given rows, which are places in both arrays.
    ///
    /// # Safety
    /// AVX-512 with bfloat16; rows lie within the arrays, the tile within `sums` `[tap, in, out]`.
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[inline]
    #[expect(clippy::needless_range_loop, reason = "loops of fixed length over a tile in registers")]
    unsafe fn tile<const VECTORS: usize, const INPUTS: usize>(
        inputs: &[u32],
        gradients: &[u32],
        rows: &[(usize, usize)],
        pairs: usize,
        sums: &mut [f32],
        [in_channels, out_channels]: [usize; 2],
    ) {
        unsafe {
            let place =
                |tap: usize, input: usize, vector: usize| (tap * in_channels + input) * out_channels + vector * LANES;
            let sums = sums.as_mut_ptr();
            let mut tile = [[[_mm512_setzero_ps(); VECTORS]; INPUTS]; KERNEL];
            for tap in 0..KERNEL {
                for input in 0..INPUTS {
                    for vector in 0..VECTORS {
                        tile[tap][input][vector] = _mm512_loadu_ps(sums.add(place(tap, input, vector)));
                    }
                }
            }
            for &(line, row) in rows {
                let mut line = inputs.as_ptr().add(line).cast::<i32>();
                let mut row = gradients.as_ptr().add(row).cast::<i32>();
                for _ in 0..pairs {
                    let mut dy: [__m512bh; VECTORS] = [std::mem::zeroed(); VECTORS];
                    for vector in 0..VECTORS {
                        dy[vector] = std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(
                            row.add(vector * LANES).cast(),
                        ));
                    }
                    for tap in 0..KERNEL {
                        for input in 0..INPUTS {
                            let x = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(
                                *line.add(tap * INPUTS + input),
                            ));
                            for vector in 0..VECTORS {
                                tile[tap][input][vector] = _mm512_dpbf16_ps(tile[tap][input][vector], dy[vector], x);
                            }
                        }
                    }
                    line = line.add(KERNEL * INPUTS);
                    row = row.add(VECTORS * LANES);
                }
            }
            for tap in 0..KERNEL {
                for input in 0..INPUTS {
                    for vector in 0..VECTORS {
                        _mm512_storeu_ps(sums.add(place(tap, input, vector)), tile[tap][input][vector]);
                    }
                }
            }
        }
    }

    /// The two pixels of each pair under each tap, `[pair, tap]`, as columns of a row; None for a zero.
    type Columns = Vec<[Option<usize>; 2]>;

    /// Pairs up pixels of whole images.
    ///
    /// # Safety
    /// AVX-512; `packed` was made for these images, and the columns lie within their rows.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn pack<const BLOCK: usize>(
        images: &[bf16],
        width: usize,
        channels: usize,
        columns: &Columns,
        packed: &mut Packed,
    ) {
        assert!(images.len() / (width * channels) * packed.row <= packed.block);
        for (row, pixels) in images.chunks_exact(width * channels).enumerate() {
            for (place, columns) in columns.iter().enumerate() {
                let place = row * packed.row + place * BLOCK;
                for channel in (0..channels).step_by(LANES) {
                    unsafe {
                        let [low, high] = columns.map(|column| match column {
                            Some(column) => {
                                let pixel = pixels.as_ptr().add(column * channels + channel);
                                _mm512_cvtepu16_epi32(_mm256_loadu_si256(pixel.cast()))
                            }
                            None => _mm512_setzero_si512(),
                        });
                        let both = _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
                        let to =
                            packed.values.as_mut_ptr().add(channel / BLOCK * packed.block + place + channel % BLOCK);
                        scatter::<BLOCK>(to, packed.block, both);
                    }
                }
            }
        }
    }

    /// Stores a vector of channels in pieces of a channel block's length.
    ///
    /// # Safety
    /// AVX-512; the pieces lie within the array, `block` elements apart.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn scatter<const BLOCK: usize>(to: *mut u32, block: usize, values: __m512i) {
        unsafe {
            match BLOCK {
                4 => {
                    _mm_storeu_si128(to.cast(), _mm512_extracti32x4_epi32::<0>(values));
                    _mm_storeu_si128(to.add(block).cast(), _mm512_extracti32x4_epi32::<1>(values));
                    _mm_storeu_si128(to.add(2 * block).cast(), _mm512_extracti32x4_epi32::<2>(values));
                    _mm_storeu_si128(to.add(3 * block).cast(), _mm512_extracti32x4_epi32::<3>(values));
                }
                8 => {
                    _mm256_storeu_si256(to.cast(), _mm512_extracti64x4_epi64::<0>(values));
                    _mm256_storeu_si256(to.add(block).cast(), _mm512_extracti64x4_epi64::<1>(values));
                }
                _ => _mm512_storeu_si512(to.cast(), values),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    fn random(shape: &[i64], seed: u64) -> Tensor {
        let mut values = Tensor::empty(shape, (Kind::Float, Device::Cpu));
        crate::Generator::new(seed).unwrap().normal_(&mut values, 0.0, 1.0).unwrap();
        values.to_kind(Kind::BFloat16)
    }

    fn check(batch: usize, channels: [usize; 2], input: [usize; 2], stride: usize, padding: usize) {
        let output = input.map(|size| (size + 2 * padding - KERNEL) / stride + 1);
        let [in_channels, out_channels] = channels;
        let convolution = Convolution { batch, input, output, in_channels, out_channels, stride, padding };
        if !convolution.can_pair() {
            return;
        }
        let size = |sizes: [usize; 4]| sizes.map(|size| size as i64);
        let x = random(&size([batch, input[0], input[1], in_channels]), 1);
        let dy = random(&size([batch, output[0], output[1], out_channels]), 2);
        let dw = Tensor::zeros(size([out_channels, KERNEL, KERNEL, in_channels]), (Kind::BFloat16, Device::Cpu));
        weight_gradient(&convolution, Slab::of(&x), Slab::of(&dy), Slab::of(&dw));
        let weight = Tensor::zeros(size([out_channels, in_channels, KERNEL, KERNEL]), (Kind::Double, Device::Cpu))
            .set_requires_grad(true);
        let image = |pixels: &Tensor| pixels.to_kind(Kind::Double).permute([0, 3, 1, 2]);
        let (stride, padding) = (stride as i64, padding as i64);
        let y = image(&x).conv2d(&weight, None::<&Tensor>, [stride; 2], [padding; 2], [1, 1], 1);
        (y * image(&dy)).sum(Kind::Double).backward();
        let expected = weight.grad().permute([0, 2, 3, 1]);
        let error = f64::try_from((dw.to_kind(Kind::Double) - &expected).norm() / expected.norm()).unwrap();
        // Half a unit in the last of eight places, and what float32 sums lose.
        assert!(error < 1.0 / 512.0, "{convolution:?}: {error}");
    }

    #[test]
    fn is_the_derivative_of_the_convolution() {
        check(9, [16, 16], [32, 32], 1, 1);
        check(5, [16, 32], [32, 32], 2, 1);
        check(11, [32, 32], [16, 16], 1, 1);
        check(3, [64, 64], [8, 8], 1, 1);
        check(1, [32, 64], [17, 13], 2, 1);
        check(2, [48, 80], [7, 9], 1, 0);
        check(2, [16, 48], [9, 6], 3, 2);
    }
}
