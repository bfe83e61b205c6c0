//! Linear layers and self-attention in float32, where matrix products of our own are faster than libtorch's.

use std::ffi::c_void;

use tch::{Kind, Tensor};

#[cfg(target_arch = "x86_64")]
use crate::cpu::{
    Number, Slab,
    matmul::{attention, is_faster, linear as layer},
};
use crate::error::{Result, check};
use crate::ffi::{self, AttentionKernels, LinearKernels};

/// `x W^T + bias` for float32 `x [.., inputs]`, `weight [outputs, inputs]`, `bias [outputs]` on the CPU; None where libtorch's
/// own serves better. Its backward pass has no derivative of its own.
///
/// # Errors
/// If there is no memory.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
    let (shape, &[outputs, inputs]) = (x.size(), &weight.size()[..]) else { return Ok(None) };
    let is_float = [Some(x), Some(weight), bias].into_iter().flatten().all(|tensor| tensor.kind() == Kind::Float);
    if !is_float || shape.last() != Some(&inputs) || bias.is_some_and(|bias| bias.size() != [outputs]) {
        return Ok(None);
    }
    let rows = shape[..shape.len() - 1].iter().product();
    let Some(kernels) = linear_kernels([rows, inputs, outputs]) else { return Ok(None) };
    let bias = ffi::pointer_or_null(bias);
    let mut out = std::ptr::null_mut();
    // SAFETY: all tensors live through the call; on success `out` is a new tensor that the returned value owns.
    unsafe {
        check(ffi::flatmin_linear(kernels, x.as_ptr(), weight.as_ptr(), bias, &mut out))?;
        Ok(Some(Tensor::from_ptr(out)))
    }
}

/// softmax(q k^T / sqrt(size)) v in each head, `[batch, tokens, features]`, of float32
/// `qkv [batch, tokens, 3 features]`: queries, keys and values, each of them head after head. None where libtorch's own
/// serves better. Its backward pass has no derivative of its own.
///
/// # Errors
/// If there is no memory.
pub fn self_attention(qkv: &Tensor, heads: i64) -> Result<Option<Tensor>> {
    let &[batch, tokens, features] = &qkv.size()[..] else { return Ok(None) };
    if qkv.kind() != Kind::Float || heads < 1 || features % (3 * heads) != 0 {
        return Ok(None);
    }
    let Some(kernels) = attention_kernels([batch, tokens, heads, features / 3 / heads]) else { return Ok(None) };
    let mut out = std::ptr::null_mut();
    // SAFETY: as above.
    unsafe {
        check(ffi::flatmin_attention(kernels, qkv.as_ptr(), heads, &mut out))?;
        Ok(Some(Tensor::from_ptr(out)))
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn linear_kernels(_sizes: [i64; 3]) -> Option<&'static LinearKernels> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn attention_kernels(_sizes: [i64; 4]) -> Option<&'static AttentionKernels> {
    None
}

#[cfg(target_arch = "x86_64")]
fn linear_kernels(sizes: [i64; 3]) -> Option<&'static LinearKernels> {
    static KERNELS: LinearKernels = LinearKernels { forward, input_gradient };

    extern "C" fn forward(
        sizes: *const i64,
        x: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        y: *mut c_void,
    ) {
        let sizes = linear_sizes(sizes);
        let [x, weight, y] = linear_arrays(sizes, [x, weight, y]);
        let bias = (!bias.is_null()).then(|| slab(bias, sizes.outputs));
        layer::forward(sizes, x, weight, bias, y);
    }

    extern "C" fn input_gradient(sizes: *const i64, dy: *const c_void, weight: *const c_void, dx: *mut c_void) {
        let sizes = linear_sizes(sizes);
        let [dx, weight, dy] = linear_arrays(sizes, [dx, weight, dy]);
        layer::input_gradient(sizes, dy, weight, dx);
    }

    (is_faster() && linear_sizes(sizes.as_ptr()).are_large()).then_some(&KERNELS)
}

#[cfg(target_arch = "x86_64")]
fn attention_kernels(sizes: [i64; 4]) -> Option<&'static AttentionKernels> {
    static KERNELS: AttentionKernels = AttentionKernels { forward, backward };

    extern "C" fn forward(sizes: *const i64, qkv: *const c_void, out: *mut c_void, normalizers: *mut c_void) {
        let sizes = attention_sizes(sizes);
        let [qkv, out, normalizers] = attention_arrays(sizes, [qkv, out, normalizers]);
        attention::forward(sizes, qkv, out, normalizers);
    }

    extern "C" fn backward(
        sizes: *const i64,
        qkv: *const c_void,
        dout: *const c_void,
        normalizers: *const c_void,
        dqkv: *mut c_void,
    ) {
        let sizes = attention_sizes(sizes);
        let [qkv, dout, normalizers] = attention_arrays(sizes, [qkv, dout, normalizers]);
        attention::backward(sizes, qkv, dout, normalizers, slab(dqkv, qkv.len()));
    }

    (is_faster() && attention_sizes(sizes.as_ptr()).fit_the_cache()).then_some(&KERNELS)
}

/// An array of the shim's, alive through the call.
#[cfg(target_arch = "x86_64")]
fn slab<T: Number>(data: *const c_void, len: usize) -> Slab<T> {
    Slab::from_raw(data.cast_mut().cast(), len)
}

#[cfg(target_arch = "x86_64")]
fn linear_sizes(sizes: *const i64) -> layer::Sizes {
    // SAFETY: the shim hands over so many sizes.
    let [rows, inputs, outputs] = unsafe { *sizes.cast::<[i64; 3]>() }.map(|size| size as usize);
    layer::Sizes { rows, inputs, outputs }
}

/// Arrays like input, weight and output.
#[cfg(target_arch = "x86_64")]
fn linear_arrays(sizes: layer::Sizes, arrays: [*const c_void; 3]) -> [Slab<f32>; 3] {
    let [input, weight, output] = arrays;
    let layer::Sizes { rows, inputs, outputs } = sizes;
    [slab(input, rows * inputs), slab(weight, outputs * inputs), slab(output, rows * outputs)]
}

#[cfg(target_arch = "x86_64")]
fn attention_sizes(sizes: *const i64) -> attention::Sizes {
    // SAFETY: as above.
    let [batch, tokens, heads, size] = unsafe { *sizes.cast::<[i64; 4]>() }.map(|size| size as usize);
    attention::Sizes { batch, tokens, heads, size }
}

/// Arrays like queries with keys and values, output and normalizers.
#[cfg(target_arch = "x86_64")]
fn attention_arrays(sizes: attention::Sizes, arrays: [*const c_void; 3]) -> [Slab<f32>; 3] {
    let [qkv, out, normalizers] = arrays;
    let attention::Sizes { batch, tokens, heads, size } = sizes;
    let rows = batch * tokens * heads;
    [slab(qkv, 3 * rows * size), slab(out, rows * size), slab(normalizers, rows)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generator;
    use crate::runtime::with_num_threads;
    use tch::Device;

    fn random(shape: &[i64], seed: u64) -> Tensor {
        let mut values = Tensor::empty(shape, (Kind::Float, Device::Cpu));
        Generator::new(seed).unwrap().normal_(&mut values, 0.0, 1.0).unwrap();
        values.set_requires_grad(true)
    }

    /// Value and the gradients of a random projection of it, from the same leaves in float32 and in float64.
    fn expect_equal(
        leaves: &[Tensor],
        own: impl Fn(&[Tensor]) -> Option<Tensor>,
        reference: impl Fn(&[Tensor]) -> Tensor,
    ) {
        let results = |output: &Tensor, leaves: &[Tensor]| {
            let along = random(&output.size(), 9).detach().to_kind(output.kind());
            let gradients = Tensor::run_backward(&[(output * along).sum(output.kind())], leaves, false, false);
            std::iter::once(output.detach()).chain(gradients).collect::<Vec<_>>()
        };
        let Some(output) = own(leaves) else { return };
        let wide: Vec<Tensor> =
            leaves.iter().map(|leaf| leaf.detach().to_kind(Kind::Double).set_requires_grad(true)).collect();
        let expected = results(&reference(&wide), &wide);
        for (index, (found, expected)) in results(&output, leaves).iter().zip(&expected).enumerate() {
            assert_eq!(found.size(), expected.size());
            let error = f64::try_from((found.to_kind(Kind::Double) - expected).norm() / expected.norm()).unwrap();
            assert!(error < 5e-6, "{index}: {error}");
        }
    }

    #[test]
    fn a_linear_layer_and_its_gradients_are_those_of_float64() {
        // Whole tiles and none, more depth than a panel has, more rows than a block.
        for [rows, inputs, outputs] in [[264, 64, 96], [301, 401, 75], [1000, 70, 450]] {
            let leaves = [random(&[rows, inputs], 1), random(&[outputs, inputs], 2), random(&[outputs], 3)];
            expect_equal(
                &leaves,
                |leaves| linear(&leaves[0], &leaves[1], Some(&leaves[2])).unwrap(),
                |leaves| leaves[0].linear(&leaves[1], Some(&leaves[2])),
            );
        }
        let leaves = [random(&[4, 70, 65], 1), random(&[80, 65], 2)];
        expect_equal(
            &leaves,
            |leaves| linear(&leaves[0], &leaves[1], None).unwrap(),
            |leaves| leaves[0].linear(&leaves[1], None::<&Tensor>),
        );
    }

    #[test]
    fn attention_and_its_gradient_are_those_of_float64() {
        for [batch, tokens, heads, size] in [[2, 197, 2, 64], [3, 33, 1, 24], [1, 5, 3, 7], [2, 1, 1, 4]] {
            expect_equal(
                &[random(&[batch, tokens, 3 * heads * size], 5)],
                |leaves| self_attention(&leaves[0], heads).unwrap(),
                |leaves| {
                    let parts = leaves[0].view([batch, tokens, 3, heads, size]).permute([2, 0, 3, 1, 4]).unbind(0);
                    let scores = parts[0].matmul(&parts[1].transpose(2, 3)) / (size as f64).sqrt();
                    let mixed = scores.softmax(-1, Kind::Double).matmul(&parts[2]);
                    mixed.transpose(1, 2).reshape([batch, tokens, heads * size])
                },
            );
        }
    }

    #[test]
    fn results_do_not_depend_on_threads() {
        let run = || {
            let leaves = [random(&[2, 150, 72], 1), random(&[192, 72], 2)];
            let qkv = linear(&leaves[0], &leaves[1], None).unwrap()?;
            let mixed = self_attention(&qkv, 4).unwrap()?;
            let gradients = Tensor::run_backward(&[(&mixed * &mixed.detach()).sum(Kind::Float)], &leaves, false, false);
            Some((mixed.detach(), gradients))
        };
        assert_eq!(with_num_threads(1, run), with_num_threads(3, run));
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        let qkv = random(&[1, 20, 3 * 16], 1).detach();
        let _ = qkv.get(0).get(3).get(2).fill_(f64::NAN);
        let Some(mixed) = self_attention(&qkv, 1).unwrap() else { return };
        assert!(bool::try_from(mixed.get(0).get(3).isnan().all()).unwrap());
    }

    #[test]
    fn a_second_derivative_is_refused() {
        let (x, weight) = (random(&[300, 64], 1), random(&[192, 64], 2));
        let Some(qkv) = linear(&x, &weight, None).unwrap() else { return };
        let loss = (&qkv * &qkv).sum(Kind::Float);
        let error = Tensor::f_run_backward(&[loss], &[&weight], true, true).unwrap_err();
        assert!(error.to_string().contains("second derivative"), "{error}");
    }

    #[test]
    fn what_it_is_not_made_for_is_left_to_libtorch() {
        let (x, weight) = (random(&[300, 64], 1), random(&[192, 64], 2));
        let wide = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        assert!(linear(&wide(&x), &wide(&weight), None).unwrap().is_none());
        assert!(linear(&x.narrow(0, 0, 20), &weight, None).unwrap().is_none());
        assert!(linear(&x, &weight.narrow(1, 0, 20), None).unwrap().is_none());
        assert!(self_attention(&random(&[1, 2000, 48], 1), 1).unwrap().is_none());
        assert!(self_attention(&random(&[2, 20, 48], 1), 5).unwrap().is_none());
    }
}
