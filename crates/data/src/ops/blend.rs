//! Operations that mix a picture with a plainer one, or move away from it: brightness, colour, contrast, sharpness.

use multiversion::multiversion;

use crate::canvas::Canvas;

/// `plain + factor (value - plain)`, clipped, its fraction cut off.
#[inline(always)]
fn mix(plain: u8, value: u8, factor: f32) -> u8 {
    let plain = f32::from(plain);
    (plain + factor * (f32::from(value) - plain)).clamp(0.0, 255.0) as i32 as u8
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw", "x86_64+avx2"))]
fn mix_with(plane: &mut [u8], plain: u8, factor: f32) {
    plane.iter_mut().for_each(|value| *value = mix(plain, *value, factor));
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw", "x86_64+avx2"))]
fn mix_planes(plane: &mut [u8], plain: &[u8], factor: f32) {
    plane.iter_mut().zip(plain).for_each(|(value, &plain)| *value = mix(plain, *value, factor));
}

pub(super) fn brightness(canvas: &mut Canvas, factor: f32) {
    canvas.planes.iter_mut().for_each(|plane| mix_with(plane, 0, factor));
}

/// ITU-R 601 luma in 16-bit fixed point.
fn luma(canvas: &Canvas) -> Vec<u8> {
    match &canvas.planes[..] {
        [red, green, blue] => {
            let pixels = red.iter().zip(green).zip(blue);
            let weigh = |((&r, &g), &b)| u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471;
            pixels.map(|pixel| ((weigh(pixel) + 0x8000) >> 16) as u8).collect()
        }
        planes => planes.first().cloned().unwrap_or_default(),
    }
}

pub(super) fn color(canvas: &mut Canvas, factor: f32) {
    let grey = luma(canvas);
    canvas.planes.iter_mut().for_each(|plane| mix_planes(plane, &grey, factor));
}

pub(super) fn contrast(canvas: &mut Canvas, factor: f32) {
    let grey = luma(canvas);
    let sum: u64 = grey.iter().map(|&value| u64::from(value)).sum();
    let mean = (sum as f64 / grey.len().max(1) as f64 + 0.5) as u8;
    canvas.planes.iter_mut().for_each(|plane| mix_with(plane, mean, factor));
}

pub(super) fn sharpness(canvas: &mut Canvas, spare: &mut Canvas, factor: f32) {
    let (height, width) = (canvas.height, canvas.width);
    spare.reset(height, width, canvas.planes.len());
    for (plane, smooth) in canvas.planes.iter_mut().zip(&mut spare.planes) {
        smooth.copy_from_slice(plane);
        for y in 1..height.saturating_sub(1) {
            smooth_row(&plane[(y - 1) * width..(y + 2) * width], width, &mut smooth[y * width..(y + 1) * width]);
        }
        mix_planes(plane, smooth, factor);
    }
}

/// The mean of 3 x 3 pixels of which the middle one counts five times; the ends of the row stay.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512bw", "x86_64+avx2"))]
fn smooth_row(three: &[u8], width: usize, out: &mut [u8]) {
    if width < 3 {
        return;
    }
    let (above, rest) = three.split_at(width);
    let (row, below) = rest.split_at(width);
    let end = width - 1;
    let columns = |row: &[u8], x: usize| u32::from(row[x - 1]) + u32::from(row[x]) + u32::from(row[x + 1]);
    for x in 1..end {
        let sum = columns(above, x) + columns(row, x) + columns(below, x) + 4 * u32::from(row[x]);
        out[x] = ((2 * sum + 13) / 26) as u8;
    }
}
