//! An 8-bit picture in the size of the output, one plane a channel: what augmentations change and batches take.

use multiversion::multiversion;

use crate::picture::Turn;
use crate::sample::Sample;

/// A picture of 1 or 3 planes, row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Canvas {
    pub(crate) planes: Vec<Vec<u8>>,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Canvas {
    /// Room for a picture; its contents are unspecified.
    pub(crate) fn reset(&mut self, height: usize, width: usize, channels: usize) {
        (self.height, self.width) = (height, width);
        self.planes.resize_with(channels, Vec::new);
        for plane in &mut self.planes {
            plane.resize(height * width, 0);
        }
    }

    /// Makes a stored picture upright.
    pub(crate) fn turn(&mut self, turn: Turn) {
        let (height, width) = (self.height, self.width);
        for plane in &mut self.planes {
            if turn.transpose {
                *plane = (0..width)
                    .flat_map(|x| (0..height).map(move |y| (y, x)))
                    .map(|(y, x)| plane[y * width + x])
                    .collect();
            }
            let width = if turn.transpose { height } else { width };
            if turn.down {
                *plane = plane.chunks_exact(width).rev().flatten().copied().collect();
            }
            if turn.across {
                plane.chunks_exact_mut(width).for_each(<[u8]>::reverse);
            }
        }
        if turn.transpose {
            (self.height, self.width) = (width, height);
        }
    }

    /// Mirrors left to right.
    pub(crate) fn flip(&mut self) {
        self.turn(Turn { across: true, ..Turn::default() });
    }

    /// Pixel (y, x) becomes the one at (y + dy, x + dx), black where there is none. `spare` is memory.
    pub(crate) fn shift(&mut self, dy: isize, dx: isize, spare: &mut Self) {
        if (dy, dx) == (0, 0) {
            return;
        }
        let (height, width) = (self.height, self.width);
        spare.reset(height, width, self.planes.len());
        for (from, to) in self.planes.iter().zip(&mut spare.planes) {
            for (y, to) in to.chunks_exact_mut(width).enumerate() {
                let row = y.checked_add_signed(dy).filter(|y| *y < height).map(|y| &from[y * width..(y + 1) * width]);
                let Some(row) = row else {
                    to.fill(0);
                    continue;
                };
                let inside = width.saturating_sub(dx.unsigned_abs());
                let (at, start) = if dx < 0 { (width - inside, 0) } else { (0, width - inside) };
                to.fill(0);
                to[at..at + inside].copy_from_slice(&row[start..start + inside]);
            }
        }
        std::mem::swap(self, spare);
    }

    /// Value v of channel c becomes `v * gain[c] + bias[c]` in `out`, `[height, width, channels]`.
    pub(crate) fn write<T: Sample>(&self, gain: &[f32], bias: &[f32], out: &mut [T]) {
        match (&self.planes[..], gain, bias) {
            ([red, green, blue], &[gr, gg, gb, ..], &[br, bg, bb, ..]) => {
                interleave([red, green, blue], [gr, gg, gb], [br, bg, bb], out);
            }
            ([grey], &[gain, ..], &[bias, ..]) => {
                out.iter_mut().zip(grey).for_each(|(out, &value)| *out = T::of(f32::from(value) * gain + bias));
            }
            _ => {}
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw", "x86_64+avx2"))]
fn interleave<T: Sample>(planes: [&Vec<u8>; 3], gain: [f32; 3], bias: [f32; 3], out: &mut [T]) {
    let [red, green, blue] = planes;
    let pixels = red.iter().zip(green).zip(blue);
    for (out, ((&r, &g), &b)) in out.chunks_exact_mut(3).zip(pixels) {
        out[0] = T::of(f32::from(r) * gain[0] + bias[0]);
        out[1] = T::of(f32::from(g) * gain[1] + bias[1]);
        out[2] = T::of(f32::from(b) * gain[2] + bias[2]);
    }
}
