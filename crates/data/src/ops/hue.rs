//! A shift of the hue, by way of Pillow's 8-bit hue, saturation and value.

use crate::canvas::Canvas;

pub(super) fn shift(canvas: &mut Canvas, turns: f64) {
    let [red, green, blue] = &mut canvas.planes[..] else { return };
    let by = (turns * 255.0) as i64 as u8;
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let (hue, saturation, value) = to_hsv(*r, *g, *b);
        (*r, *g, *b) = to_rgb(hue.wrapping_add(by), saturation, value);
    }
}

fn to_hsv(r: u8, g: u8, b: u8) -> (u8, u8, u8) {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return (0, 0, most);
    }
    let range = f32::from(most - least);
    let below = |channel: u8| f32::from(most - channel) / range;
    let sixth = if r == most {
        below(b) - below(g)
    } else if g == most {
        2.0 + below(r) - below(b)
    } else {
        4.0 + below(g) - below(r)
    };
    let hue = (f64::from(sixth) / 6.0 + 1.0).rem_euclid(1.0);
    let saturation = range / f32::from(most);
    ((hue * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most)
}

fn to_rgb(hue: u8, saturation: u8, value: u8) -> (u8, u8, u8) {
    if saturation == 0 {
        return (value, value, value);
    }
    let sixths = f32::from(hue) * 6.0 / 255.0;
    let (sector, part) = (sixths.floor(), sixths.fract());
    let strength = f32::from(saturation) / 255.0;
    let scaled = |by: f32| (f32::from(value) * (1.0 - by)).round() as u8;
    let (p, q, t) = (scaled(strength), scaled(strength * part), scaled(strength * (1.0 - part)));
    match sector as u8 % 6 {
        0 => (value, t, p),
        1 => (q, value, p),
        2 => (p, value, t),
        3 => (p, q, value),
        4 => (t, p, value),
        _ => (value, p, q),
    }
}
