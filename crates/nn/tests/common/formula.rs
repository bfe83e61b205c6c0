//! The numbers that golden runs start from: weights, images and labels by a formula of (name, index). The twin of
//! `__test__/goldens/formula.py`, bit for bit: integer arithmetic modulo 2^32, then float64 operations in the same order.

use tch::Tensor;

/// The 32-bit FNV-1a hash of a name's UTF-8 bytes.
pub fn fnv1a32(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |value, byte| (value ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// 32-bit integers of the stream `name`: the murmur3 finaliser of fnv1a32(name) + (index + 1) * 0x9e3779b9.
fn integers(name: &str) -> impl Iterator<Item = u32> + use<> {
    let start = fnv1a32(name);
    (1..).map(move |index: u32| {
        let x = start.wrapping_add(index.wrapping_mul(0x9e37_79b9));
        let x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
        let x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
        x ^ (x >> 16)
    })
}

/// `count` numbers in [-1, 1): integers / 2^31 - 1, without rounding.
pub fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> + use<> {
    integers(name).take(count).map(|x| f64::from(x) / 2f64.powi(31) - 1.0)
}

/// The start of one floating-point entry of a state dict, by the end of its name and its dimensions.
pub fn tensor_value(name: &str, shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let (offset, scale) = match shape {
        [rows, _, ..] => (0.0, (6.0 / (count / *rows as usize) as f64).sqrt()),
        _ if name.ends_with("running_var") || name.ends_with("weight") => (1.0, 0.25),
        _ => (0.0, 0.1),
    };
    let values: Vec<f64> = uniform(name, count).map(|u| offset + scale * u).collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// The images of a step, `[batch, channels, height, width]`.
pub fn images(step: usize, shape: [i64; 4]) -> Tensor {
    let values: Vec<f64> =
        uniform(&format!("images/{step}"), shape.iter().product::<i64>() as usize).map(|u| 1.5 * u).collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// The labels of a step.
pub fn labels(step: usize, batch: usize, num_classes: i64) -> Tensor {
    let values: Vec<i64> =
        integers(&format!("labels/{step}")).take(batch).map(|x| (i64::from(x) * num_classes) >> 32).collect();
    Tensor::from_slice(&values)
}
