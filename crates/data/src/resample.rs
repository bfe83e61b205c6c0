//! Scales a part of a picture to the size of the output, with antialiasing, plane by plane.
//!
//! The filter is the triangle of Pillow's and torchvision's antialiased bilinear resize: as wide as the reduction, one
//! pixel at least, clipped at the border of the part. Subsampled chroma is not upsampled first: its smooth (or plain)
//! upsampling is folded into the weights. Sums are float32 and rounded once, at the end; multiplications and additions
//! stay apart, so that every machine gives the same bytes.

use multiversion::multiversion;

use crate::canvas::Canvas;
use crate::plane::{Colour, Plane, Planes};

/// What an axis of the output shows of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) start: f64,
    pub(crate) length: f64,
    /// The pixels that the filter may read; they hold the span.
    pub(crate) low: usize,
    pub(crate) high: usize,
}

/// What is shown of an image, and in which size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) vertical: Span,
    pub(crate) horizontal: Span,
    /// Of the output.
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// 1 gives grey, 3 red, green, blue.
    pub(crate) channels: usize,
}

impl Span {
    /// A part of whole pixels, beyond which the filter does not look.
    pub(crate) fn whole(start: usize, length: usize) -> Self {
        Self { start: start as f64, length: length as f64, low: start, high: start + length }
    }

    /// The pixels that `outputs` points over this span read.
    pub(crate) fn reach(self, outputs: usize) -> std::ops::Range<usize> {
        let support = (self.length / outputs as f64).max(1.0);
        let from = (self.start - support).floor().max(self.low as f64) as usize;
        let to = (self.start + self.length + support).ceil() as usize;
        from..to.min(self.high)
    }

    /// The same part of an axis of `side` pixels looked at from its other end, if `flip` says so.
    pub(crate) fn flipped(self, flip: bool, side: usize) -> Self {
        if !flip {
            return self;
        }
        let start = side as f64 - self.start - self.length;
        Self { start, length: self.length, low: side - self.high, high: side - self.low }
    }

    /// The same part of the image reduced to 1 / `scale`.
    pub(crate) fn reduced(self, scale: usize) -> Self {
        let by = scale as f64;
        let (low, high) = (self.low / scale, self.high.div_ceil(scale));
        Self { start: self.start / by, length: self.length / by, low, high }
    }
}

/// What each output reads along one axis: `count` samples from `starts` on, with weights that add up to 1.
#[derive(Debug, Default)]
struct Taps {
    starts: Vec<u32>,
    /// A multiple of 4.
    count: usize,
    weights: Vec<f32>,
}

/// How the samples of a plane lie along one axis.
#[derive(Clone, Copy)]
struct Axis {
    /// Samples of the whole component.
    samples: usize,
    /// The first one that is there, and how many are.
    first: usize,
    present: usize,
    /// Pixels a sample.
    share: usize,
}

impl Taps {
    /// Weights of the samples of `axis` for `outputs` points over `span` (in pixels).
    fn fill(&mut self, axis: Axis, span: Span, outputs: usize, scratch: &mut Vec<f64>) {
        let step = span.length / outputs as f64;
        let support = step.max(1.0);
        let widest = (2.0 * support).ceil() as usize + 2;
        self.count = (widest.div_ceil(axis.share) + if axis.share > 1 { 2 } else { 0 }).next_multiple_of(4);
        // A short plane has no place for all taps: those beyond it weigh nothing.
        self.count = self.count.min(axis.present.next_multiple_of(4));
        self.starts.clear();
        self.weights.clear();
        self.weights.resize(outputs * self.count, 0.0);
        for (output, weights) in self.weights.chunks_exact_mut(self.count).enumerate() {
            let centre = span.start + (output as f64 + 0.5) * step;
            let from = (centre - support + 0.5).floor().max(span.low as f64) as usize;
            let to = ((centre + support + 0.5).floor() as usize).min(span.high).max(from + 1);
            let first_sample = (from / axis.share).saturating_sub(usize::from(axis.share == 2));
            let start = first_sample.clamp(axis.first, axis.first + axis.present - 1);
            scratch.clear();
            scratch.resize(self.count, 0.0);
            let mut add = |sample: usize, weight: f64| {
                let sample = sample.min(axis.samples - 1).clamp(start, axis.first + axis.present - 1);
                let place = (sample - start).min(scratch.len() - 1);
                scratch[place] += weight;
            };
            let mut sum = 0.0;
            for pixel in from..to {
                let weight = (1.0 - ((pixel as f64 + 0.5 - centre) / support).abs()).max(0.0);
                sum += weight;
                let sample = pixel / axis.share;
                if axis.share == 2 {
                    // libjpeg's "fancy" upsampling: three parts of the nearer sample, one of the other.
                    add(sample, 0.75 * weight);
                    add(if pixel % 2 == 0 { sample.saturating_sub(1) } else { sample + 1 }, 0.25 * weight);
                } else {
                    add(sample, weight);
                }
            }
            for (weight, value) in weights.iter_mut().zip(&*scratch) {
                *weight = (value / sum) as f32;
            }
            self.starts.push((start - axis.first) as u32);
        }
    }
}

/// Scales pictures; keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct Resampler {
    vertical: Taps,
    horizontal: Taps,
    scratch: Vec<f64>,
    /// One row of a plane, scaled vertically.
    row: Vec<f32>,
    /// `[height, width]` of the output, a component.
    scaled: [Vec<f32>; 3],
}

impl Resampler {
    /// Draws the view of a picture.
    pub(crate) fn run(&mut self, picture: &Planes, view: View, canvas: &mut Canvas) {
        let View { vertical, horizontal, height, width, channels } = view;
        let mut geometry = None;
        for (plane, scaled) in picture.planes.iter().zip(&mut self.scaled) {
            let rows = plane.data.len() / plane.stride.max(1);
            let down = Axis { samples: plane.height, first: plane.top, present: rows, share: plane.down };
            let across = Axis { samples: plane.width, first: plane.left, present: plane.stride, share: plane.across };
            let own = (plane.top, plane.left, rows, plane.stride, plane.down, plane.across);
            if geometry.replace(own) != Some(own) {
                self.vertical.fill(down, vertical, height, &mut self.scratch);
                self.horizontal.fill(across, horizontal, width, &mut self.scratch);
            }
            scaled.resize(width * height, 0.0);
            // Taps that weigh nothing may lie beyond the row.
            self.row.clear();
            self.row.resize(plane.stride + self.horizontal.count, 0.0);
            scale(plane, &self.vertical, &self.horizontal, &mut self.row, scaled);
        }
        canvas.reset(height, width, channels);
        colour(&self.scaled, picture.colour, &mut canvas.planes);
    }
}

/// Scales a plane, each row of the output down and then across while it is in the cache.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw", "x86_64+avx2"))]
fn scale(plane: &Plane, vertical: &Taps, horizontal: &Taps, row: &mut [f32], out: &mut [f32]) {
    let stride = plane.stride;
    let last = plane.data.len() / stride - 1;
    let outputs = out.chunks_exact_mut(horizontal.starts.len());
    let taps = vertical.starts.iter().zip(vertical.weights.chunks_exact(vertical.count));
    for (out, (&start, weights)) in outputs.zip(taps) {
        let line = |k: usize| {
            let line = (start as usize + k).min(last);
            &plane.data[line * stride..(line + 1) * stride]
        };
        for (group, weights) in weights.as_chunks::<4>().0.iter().enumerate() {
            let k = 4 * group;
            mix_lines([line(k), line(k + 1), line(k + 2), line(k + 3)], weights, group > 0, &mut row[..stride]);
        }
        match horizontal.count {
            4 => across::<1>(row, horizontal, out),
            8 => across::<2>(row, horizontal, out),
            12 => across::<3>(row, horizontal, out),
            _ => across_any(row, horizontal, out),
        }
    }
}

/// `row[x] = sum_k weights[k] * lines[k][x]`, or adds that to it.
#[inline(always)]
fn mix_lines(lines: [&[u8]; 4], weights: &[f32; 4], add: bool, row: &mut [f32]) {
    let samples = lines[0].iter().zip(lines[1]).zip(lines[2]).zip(lines[3]);
    let sums = samples.map(|(((&a, &b), &c), &d)| {
        let near = f32::from(a) * weights[0] + f32::from(b) * weights[1];
        near + (f32::from(c) * weights[2] + f32::from(d) * weights[3])
    });
    match add {
        false => row.iter_mut().zip(sums).for_each(|(row, sum)| *row = sum),
        true => row.iter_mut().zip(sums).for_each(|(row, sum)| *row += sum),
    }
}

/// One row of the output from `4 * GROUPS` taps each.
#[inline(always)]
fn across<const GROUPS: usize>(row: &[f32], taps: &Taps, out: &mut [f32]) {
    let weights = taps.weights.as_chunks::<4>().0.as_chunks::<GROUPS>().0;
    for ((out, &start), weights) in out.iter_mut().zip(&taps.starts).zip(weights) {
        let samples = &row[start as usize..start as usize + 4 * GROUPS];
        *out = dot(samples.as_chunks::<4>().0, weights);
    }
}

#[inline(always)]
fn across_any(row: &[f32], taps: &Taps, out: &mut [f32]) {
    for ((out, &start), weights) in out.iter_mut().zip(&taps.starts).zip(taps.weights.chunks_exact(taps.count)) {
        let samples = &row[start as usize..start as usize + taps.count];
        *out = dot(samples.as_chunks::<4>().0, weights.as_chunks::<4>().0);
    }
}

/// Four sums side by side, added at the end.
#[inline(always)]
fn dot(samples: &[[f32; 4]], weights: &[[f32; 4]]) -> f32 {
    let mut sums = [0.0f32; 4];
    for (samples, weights) in samples.iter().zip(weights) {
        for k in 0..4 {
            sums[k] += samples[k] * weights[k];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// To the nearest whole number in 0..=255, ties to even.
#[inline(always)]
fn byte(value: f32) -> u8 {
    // Adding 1.5 * 2^23 leaves the whole number in the lowest bits.
    (value.clamp(0.0, 255.0) + 12_582_912.0).to_bits() as u8
}

/// From the components of the file to those of the output.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw", "x86_64+avx2"))]
fn colour(from: &[Vec<f32>; 3], colour: Colour, to: &mut [Vec<u8>]) {
    let [a, b, c] = from;
    match (colour, to) {
        // Luma is grey.
        (Colour::Grey | Colour::Ycc, [grey]) => grey.iter_mut().zip(a).for_each(|(to, from)| *to = byte(*from)),
        (Colour::Rgb, [grey]) => {
            for (((to, r), g), b) in grey.iter_mut().zip(a).zip(b).zip(c) {
                *to = byte(r * 0.299 + g * 0.587 + b * 0.114);
            }
        }
        (Colour::Grey, to) => {
            for plane in to {
                plane.iter_mut().zip(a).for_each(|(to, from)| *to = byte(*from));
            }
        }
        (Colour::Rgb, to) => {
            for (plane, from) in to.iter_mut().zip(from) {
                plane.iter_mut().zip(from).for_each(|(to, from)| *to = byte(*from));
            }
        }
        (Colour::Ycc, [red, green, blue]) => {
            let pixels = a.iter().zip(b).zip(c).zip(red).zip(green).zip(blue);
            for (((((y, cb), cr), red), green), blue) in pixels {
                let (cb, cr) = (cb - 128.0, cr - 128.0);
                *red = byte(y + cr * 1.402);
                *green = byte(y - (cb * 0.344_136_3 + cr * 0.714_136_3));
                *blue = byte(y + cb * 1.772);
            }
        }
        (Colour::Ycc, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::Region;

    fn grey(height: usize, width: usize, value: impl Fn(usize, usize) -> u8) -> Planes {
        let pixels: Vec<u8> = (0..height * width).map(|at| value(at / width, at % width)).collect();
        let mut planes = Planes::default();
        planes.fill(&pixels, width, 1, Region { top: 0, left: 0, height, width });
        planes
    }

    fn drawn(picture: &Planes, vertical: Span, horizontal: Span, height: usize, width: usize) -> Vec<u8> {
        let mut canvas = Canvas::default();
        let view = View { vertical, horizontal, height, width, channels: 1 };
        Resampler::default().run(picture, view, &mut canvas);
        canvas.planes.remove(0)
    }

    #[test]
    fn a_picture_in_its_own_size_stays_as_it_is() {
        let picture = grey(9, 7, |y, x| (y * 29 + x * 31) as u8);
        assert_eq!(drawn(&picture, Span::whole(0, 9), Span::whole(0, 7), 9, 7), picture.planes[0].data);
        assert_eq!(drawn(&picture, Span::whole(2, 3), Span::whole(1, 4), 3, 4)[..4], picture.planes[0].data[15..19]);
    }

    #[test]
    fn one_grey_stays_one_grey_at_any_size() {
        let picture = grey(40, 60, |_, _| 201);
        for (height, width) in [(1, 1), (3, 59), (40, 7), (97, 200)] {
            let spans = (Span::whole(3, 30), Span::whole(10, 50));
            assert!(drawn(&picture, spans.0, spans.1, height, width).iter().all(|value| *value == 201));
        }
    }

    #[test]
    fn what_a_reduction_covers_is_averaged_and_nothing_beyond_the_part_is_seen() {
        // Stripes two pixels wide, and a bright border that the part leaves out.
        let stripes = |x: usize| if (x / 2).is_multiple_of(2) { 100 } else { 140 };
        let picture = grey(34, 34, |y, x| if y < 1 || x < 1 || y > 32 || x > 32 { 255 } else { stripes(x - 1) });
        let small = drawn(&picture, Span::whole(1, 32), Span::whole(1, 32), 4, 4);
        assert!(small.iter().all(|value| (116..=124).contains(value)), "{small:?}");
    }

    #[test]
    fn chroma_is_upsampled_within_the_weights() {
        // Luma constant; chroma a ramp at half size.
        let mut picture = grey(32, 32, |_, _| 120);
        picture.colour = Colour::Ycc;
        for _ in 0..2 {
            let mut ramp = grey(16, 16, |y, x| (96 + 2 * x + y) as u8).planes.remove(0);
            (ramp.across, ramp.down) = (2, 2);
            picture.planes.push(ramp);
        }
        let view =
            View { vertical: Span::whole(3, 26), horizontal: Span::whole(5, 20), height: 11, width: 9, channels: 3 };
        let (mut fast, mut exact) = (Canvas::default(), Canvas::default());
        Resampler::default().run(&picture, view, &mut fast);
        picture.convert_to_rgb();
        Resampler::default().run(&picture, view, &mut exact);
        let values = fast.planes.concat().into_iter().zip(exact.planes.concat());
        assert!(values.into_iter().all(|(a, b)| a.abs_diff(b) <= 1));
    }
}
