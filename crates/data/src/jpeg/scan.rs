//! All blocks of a baseline scan, those outside the crop passed over.

use multiversion::multiversion;

use super::Refusal;
use super::bits::{Bits, Entropy};
use super::block::Coder;
use super::header::{Component, Header, cut_short};
use super::idct::{Reduced, flat, full};
use crate::plane::{Plane, Planes, Region};

/// Bytes of all planes, as the other decoders have it.
const MOST: usize = 512 << 20;

/// Minimum coded units that are reconstructed, and where they lie.
struct Window {
    /// Units of the image, across and down.
    across: usize,
    down: usize,
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

impl Window {
    /// The units that show `region`, with the neighbours that smooth upsampling of the chroma reads.
    fn new(header: &Header, region: Region) -> Self {
        let (across, down) = header.sampling();
        let (width, height) = (8 * across, 8 * down);
        let units = |from: usize, to: usize, margin: usize, side: usize, all: usize| {
            from.saturating_sub(margin) / side..(to + margin).div_ceil(side).min(all)
        };
        let all = (header.width.div_ceil(width), header.height.div_ceil(height));
        Self {
            across: all.0,
            down: all.1,
            columns: units(region.left, region.left + region.width, across, width, all.0),
            rows: units(region.top, region.top + region.height, down, height, all.1),
        }
    }
}

/// Decodes the blocks that show `region` into planes with N samples to a block's side.
pub(super) fn decode<const N: usize>(
    header: &Header,
    bytes: &[u8],
    region: Region,
    planes: &mut Planes,
) -> Result<(), Refusal> {
    if !header.is_supported() {
        return Err(Refusal::Unsupported);
    }
    let mut entropy = Entropy::default();
    entropy.read(bytes, header.scan);
    let window = Window::new(header, region);
    let blocks: usize = header.components.iter().map(|component| component.across * component.down).sum();
    // Each block takes 2 bits at least: a short file is known before memory is taken for its picture.
    if entropy.len() * 4 < window.across * window.down.min(window.rows.end) * blocks {
        return Err(cut_short());
    }
    if window.columns.len() * window.rows.len() * blocks * N * N > MOST {
        return Err(Refusal::damaged(format!("{} x {} pixels take more than 512 MiB", header.width, header.height)));
    }
    planes.colour = header.colour;
    planes.planes.resize_with(header.components.len(), Plane::default);
    let sampling = header.sampling();
    for (plane, component) in planes.planes.iter_mut().zip(&header.components) {
        prepare::<N>(plane, component, header, sampling, &window);
    }
    let mut coders = Vec::with_capacity(3);
    for component in &header.components {
        let missing = || Refusal::damaged("a Huffman table is missing");
        coders.push(Coder {
            dc: header.dc[component.dc].as_deref().ok_or_else(missing)?,
            ac: header.ac[component.ac].as_deref().ok_or_else(missing)?,
            quantization: header.quantization(component)?,
            previous: 0,
        });
    }
    units::<N>(header, &window, &entropy, &mut coders, &mut planes.planes)
}

/// Makes room for a component's part of the window.
fn prepare<const N: usize>(
    plane: &mut Plane,
    component: &Component,
    header: &Header,
    (across, down): (usize, usize),
    window: &Window,
) {
    let samples = |pixels: usize, factor: usize, most: usize| (pixels * factor * N).div_ceil(8 * most);
    plane.top = window.rows.start * component.down * N;
    plane.left = window.columns.start * component.across * N;
    plane.width = samples(header.width, component.across, across);
    plane.height = samples(header.height, component.down, down);
    plane.across = across / component.across;
    plane.down = down / component.down;
    plane.stride = window.columns.len() * component.across * N;
    plane.data.resize(plane.stride * window.rows.len() * component.down * N, 0);
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+bmi2", "x86_64+avx2+bmi2"))]
fn units<const N: usize>(
    header: &Header,
    window: &Window,
    entropy: &Entropy,
    coders: &mut [Coder],
    planes: &mut [Plane],
) -> Result<(), Refusal> {
    let mut part = 0;
    let mut bits = entropy.part(0)?;
    let mut until_restart = header.restart_interval;
    let mut coefficients = [0; 64];
    let reduced = Reduced::<N>::new();
    for row in 0..window.rows.end {
        for column in 0..window.across {
            if header.restart_interval > 0 {
                if until_restart == 0 {
                    part += 1;
                    bits = entropy.part(part)?;
                    until_restart = header.restart_interval;
                    coders.iter_mut().for_each(|coder| coder.previous = 0);
                }
                until_restart -= 1;
            }
            let shown = window.rows.contains(&row) && window.columns.contains(&column);
            let (y, x) = (row.wrapping_sub(window.rows.start), column.wrapping_sub(window.columns.start));
            for ((component, coder), plane) in header.components.iter().zip(&mut *coders).zip(&mut *planes) {
                for down in 0..component.down {
                    for across in 0..component.across {
                        if !shown {
                            coder.skip(&mut bits)?;
                            continue;
                        }
                        let at = (y * component.down + down) * N * plane.stride + (x * component.across + across) * N;
                        reconstruct(
                            coder,
                            &mut bits,
                            &mut coefficients,
                            &reduced,
                            &mut plane.data[at..],
                            plane.stride,
                        )?;
                    }
                }
            }
        }
        if bits.overrun() {
            return Err(cut_short());
        }
    }
    Ok(())
}

/// One block into its place. `coefficients` are zero before and after.
#[inline(always)]
fn reconstruct<const N: usize>(
    coder: &mut Coder,
    bits: &mut Bits,
    coefficients: &mut [i32; 64],
    reduced: &Reduced<N>,
    out: &mut [u8],
    stride: usize,
) -> Result<(), Refusal> {
    let extent = coder.read(bits, coefficients)?;
    if extent == 1 {
        let value = flat(coefficients[0]);
        for row in out.chunks_mut(stride).take(N) {
            row[..N].fill(value);
        }
        coefficients[0] = 0;
        return Ok(());
    }
    if N == 8 {
        full(coefficients, extent, out, stride);
    } else {
        for (row, samples) in out.chunks_mut(stride).zip(reduced.samples(coefficients)) {
            row[..N].copy_from_slice(&samples);
        }
    }
    *coefficients = [0; 64];
    Ok(())
}
