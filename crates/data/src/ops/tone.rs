//! Operations that look each value up in a table: inversion, posterising, solarising, stretched and flat histograms.

use crate::canvas::Canvas;

fn map(plane: &mut [u8], table: &[u8; 256]) {
    plane.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
}

fn map_all(canvas: &mut Canvas, f: impl Fn(u8) -> u8) {
    let table = std::array::from_fn(|value| f(value as u8));
    canvas.planes.iter_mut().for_each(|plane| map(plane, &table));
}

pub(super) fn invert(canvas: &mut Canvas) {
    map_all(canvas, |value| !value);
}

pub(super) fn posterize(canvas: &mut Canvas, bits: u32) {
    let mask = !(0xFFu32 >> bits.min(8)) as u8;
    map_all(canvas, |value| value & mask);
}

pub(super) fn solarize(canvas: &mut Canvas, threshold: f64) {
    map_all(canvas, |value| if f64::from(value) < threshold { value } else { !value });
}

fn histogram(plane: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    plane.iter().for_each(|&value| counts[usize::from(value)] += 1);
    counts
}

pub(super) fn auto_contrast(canvas: &mut Canvas) {
    for plane in &mut canvas.planes {
        let counts = histogram(plane);
        let present = |count: &u64| *count > 0;
        let (Some(low), Some(high)) = (counts.iter().position(present), counts.iter().rposition(present)) else {
            continue;
        };
        if high > low {
            let scale = 255.0 / (high - low) as f64;
            let offset = -(low as f64) * scale;
            map(plane, &std::array::from_fn(|value| (value as f64 * scale + offset).clamp(0.0, 255.0) as u8));
        }
    }
}

pub(super) fn equalize(canvas: &mut Canvas) {
    for plane in &mut canvas.planes {
        let counts = histogram(plane);
        let Some(highest) = counts.iter().rposition(|count| *count > 0) else { continue };
        // The highest value present is left out, so that it becomes 255.
        let step = (plane.len() as u64 - counts[highest]) / 255;
        if step == 0 {
            continue;
        }
        let mut sum = step / 2;
        let table = std::array::from_fn(|value| {
            let level = (sum / step).min(255) as u8;
            sum += counts[value];
            level
        });
        map(plane, &table);
    }
}
