//! Affine maps by the nearest pixel, with black where the map leads outside.
//! Source positions are stepped along in 16.16 fixed point, as Pillow does, or summed when the map keeps rows apart.

use crate::canvas::Canvas;

/// Output pixel (x, y) shows input pixel (m0 x + m1 y + m2, m3 x + m4 y + m5), taken at pixel centres.
pub(super) fn affine(canvas: &mut Canvas, spare: &mut Canvas, matrix: [f64; 6]) {
    let (height, width) = (canvas.height, canvas.width);
    spare.reset(height, width, canvas.planes.len());
    let sources = if matrix[1] == 0.0 && matrix[3] == 0.0 {
        upright(&matrix, height, width)
    } else {
        stepped(&matrix, height, width)
    };
    for (to, from) in spare.planes.iter_mut().zip(&canvas.planes) {
        to.iter_mut().zip(&sources).for_each(|(to, &at)| *to = from.get(at as usize).copied().unwrap_or(0));
    }
    std::mem::swap(canvas, spare);
}

/// No pixel: beyond the end of any plane.
const OUTSIDE: u32 = u32::MAX;

/// Index of the source pixel, or none.
fn index(x: i64, y: i64, height: usize, width: usize) -> u32 {
    let inside = (0..width as i64).contains(&x) && (0..height as i64).contains(&y);
    if inside { (y * width as i64 + x) as u32 } else { OUTSIDE }
}

fn stepped(m: &[f64; 6], height: usize, width: usize) -> Vec<u32> {
    let fix = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let [a0, a1, a3, a4] = [m[0], m[1], m[3], m[4]].map(fix);
    let a2 = fix(m[2] + m[0] * 0.5 + m[1] * 0.5);
    let a5 = fix(m[5] + m[3] * 0.5 + m[4] * 0.5);
    let rows = 0..height as i64;
    rows.flat_map(|y| (0..width as i64).map(move |x| (x, y)))
        .map(|(x, y)| index((a2 + a0 * x + a1 * y) >> 16, (a5 + a3 * x + a4 * y) >> 16, height, width))
        .collect()
}

fn upright(m: &[f64; 6], height: usize, width: usize) -> Vec<u32> {
    let along = |start: f64, step: f64, count: usize| -> Vec<i64> {
        let mut at = start + step * 0.5;
        (0..count)
            .map(|_| {
                let here = at.floor() as i64;
                at += step;
                here
            })
            .collect()
    };
    let (columns, rows) = (along(m[2], m[0], width), along(m[5], m[4], height));
    rows.iter().flat_map(|&y| columns.iter().map(move |&x| index(x, y, height, width))).collect()
}

pub(super) fn rotate(canvas: &mut Canvas, spare: &mut Canvas, degrees: f64) {
    let degrees = degrees.rem_euclid(360.0);
    if degrees == 0.0 {
        return;
    }
    // Pillow rounds to 15 decimals, which makes quarter turns exact.
    let round = |value: f64| (value * 1e15).round() / 1e15;
    let angle = -degrees.to_radians();
    let (cos, sin) = (round(angle.cos()), round(angle.sin()));
    let (x, y) = (canvas.width as f64 / 2.0, canvas.height as f64 / 2.0);
    affine(canvas, spare, [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y]);
}
