//! Raw declarations of the shim's C interface (`shim/shim.h`). Everything above this file is safe.

use std::ffi::{c_char, c_int, c_void};
use tch::Tensor;
use torch_sys::C_tensor;

/// An argument that may be left out, as C sees it.
pub fn pointer_or_null(tensor: Option<&Tensor>) -> *const C_tensor {
    tensor.map_or(std::ptr::null(), Tensor::as_ptr)
}

/// Number formats of activations besides float32, as `shim/norm_act.cpp` names them to the kernels.
pub const FLOAT64: u8 = 1;
pub const BFLOAT16: u8 = 2;

/// The kernels that `shim/norm_act.cpp` calls back (its struct `flatmin_norm_act_kernels`).
#[repr(C)]
pub struct NormActKernels {
    pub moments: extern "C" fn(u8, *const c_void, i64, i64, *mut f64, *mut f64),
    pub forward: extern "C" fn(u8, *const c_void, *const c_void, *mut c_void, i64, i64, *const f64, *const f64),
    #[rustfmt::skip]
    pub sums: extern "C" fn(
        u8, *const c_void, *const c_void, *const c_void, i64, i64, *const f64, *const f64, *const f64, *mut f64,
    ),
    #[rustfmt::skip]
    pub gradient: extern "C" fn(
        u8, *const c_void, *const c_void, *const c_void, *mut c_void, *mut c_void, i64, i64, *const f64, *const f64,
        *const f64,
    ),
}

/// One pass of a layer, called back by the shim: sizes, two arrays that are read, one that is written.
pub type Kernel = extern "C" fn(*const i64, *const c_void, *const c_void, *mut c_void);

/// The kernels of a convolution (its struct `flatmin_conv_kernels`); what is missing is libtorch's.
#[repr(C)]
pub struct ConvolutionKernels {
    pub forward: Option<Kernel>,
    pub input_gradient: Option<Kernel>,
    pub weight_gradient: Option<Kernel>,
}

/// The passes of a linear layer, called back by `shim/matmul.cpp` (its struct `flatmin_linear_kernels`).
#[repr(C)]
pub struct LinearKernels {
    pub forward: extern "C" fn(*const i64, *const c_void, *const c_void, *const c_void, *mut c_void),
    pub input_gradient: Kernel,
}

/// The passes of attention (its struct `flatmin_attention_kernels`).
#[repr(C)]
pub struct AttentionKernels {
    pub forward: extern "C" fn(*const i64, *const c_void, *mut c_void, *mut c_void),
    pub backward: extern "C" fn(*const i64, *const c_void, *const c_void, *const c_void, *mut c_void),
}

/// As `shim.h` has them.
#[repr(C)]
#[derive(Default)]
pub struct Switches {
    pub tf32_matmul: i32,
    pub tf32_convolutions: i32,
    pub cudnn_benchmark: i32,
    pub deterministic: i32,
}

unsafe extern "C" {
    pub fn flatmin_free_error(error: *mut c_char);

    pub fn flatmin_install_allocator();

    pub fn flatmin_conv2d(
        kernels: *const ConvolutionKernels,
        x: *const C_tensor,
        weight: *const C_tensor,
        stride: i64,
        padding: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;

    pub fn flatmin_padded_subsample(
        x: *const C_tensor,
        stride: i64,
        before: i64,
        after: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;

    pub fn flatmin_image_mean(x: *const C_tensor, out: *mut *mut C_tensor) -> *mut c_char;

    pub static flatmin_unfolded: ConvolutionKernels;

    pub fn flatmin_linear(
        kernels: *const LinearKernels,
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;

    pub fn flatmin_attention(
        kernels: *const AttentionKernels,
        qkv: *const C_tensor,
        heads: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;

    pub fn flatmin_norm_act(
        kernels: *const NormActKernels,
        x: *const C_tensor,
        residual: *const C_tensor,
        gamma: *const C_tensor,
        beta: *const C_tensor,
        running_mean: *const C_tensor,
        running_variance: *const C_tensor,
        momentum: f64,
        eps: f64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;

    pub fn flatmin_parallel_for(workers: i64, body: extern "C" fn(*mut c_void, i64), context: *mut c_void);
    pub fn flatmin_set_num_threads(threads: c_int);
    pub fn flatmin_num_threads() -> c_int;
    pub fn flatmin_set_flush_denormal(on: c_int) -> c_int;
    pub fn flatmin_set_switches(switches: *const Switches) -> *mut c_char;
    pub fn flatmin_get_switches(out: *mut Switches) -> *mut c_char;
    pub fn flatmin_cpu_capability() -> *const c_char;
    pub fn flatmin_torch_version() -> *const c_char;

    pub fn flatmin_script_load(path: *const c_char, out: *mut *mut c_void) -> *mut c_char;
    pub fn flatmin_script_copy(script: *mut c_void, gpu: i32, out: *mut *mut c_void) -> *mut c_char;
    pub fn flatmin_script_bytes(script: *mut c_void, out: *mut *mut C_tensor) -> *mut c_char;
    pub fn flatmin_script_free(script: *mut c_void);
    pub fn flatmin_script_count(script: *mut c_void) -> i64;
    pub fn flatmin_script_name(script: *mut c_void, place: i64) -> *const c_char;
    pub fn flatmin_script_is_parameter(script: *mut c_void, place: i64) -> c_int;
    pub fn flatmin_script_get(script: *mut c_void, place: i64, out: *mut *mut C_tensor) -> *mut c_char;
    pub fn flatmin_script_set(script: *mut c_void, place: i64, value: *const C_tensor) -> *mut c_char;
    pub fn flatmin_script_train(script: *mut c_void, on: c_int) -> *mut c_char;
    pub fn flatmin_script_evaluate_owner(script: *mut c_void, place: i64) -> *mut c_char;
    pub fn flatmin_script_forward(script: *mut c_void, input: *const C_tensor, out: *mut *mut C_tensor) -> *mut c_char;

    pub fn flatmin_bump_version(tensor: *const C_tensor);
    pub fn flatmin_clear_grad(tensor: *mut C_tensor);
    pub fn flatmin_set_grad(tensor: *mut C_tensor, grad: *const C_tensor);
    pub fn flatmin_channels_last(tensor: *const C_tensor, out: *mut *mut C_tensor) -> *mut c_char;
    pub fn flatmin_generator_new(seed: u64, out: *mut *mut c_void) -> *mut c_char;
    pub fn flatmin_generator_free(generator: *mut c_void);
    pub fn flatmin_generator_uniform(generator: *mut c_void, tensor: *mut C_tensor, low: f64, high: f64)
    -> *mut c_char;
    pub fn flatmin_generator_normal(
        generator: *mut c_void,
        tensor: *mut C_tensor,
        mean: f64,
        deviation: f64,
    ) -> *mut c_char;
    pub fn flatmin_generator_bernoulli(generator: *mut c_void, tensor: *mut C_tensor, probability: f64) -> *mut c_char;
}
