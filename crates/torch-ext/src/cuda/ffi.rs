//! Raw declarations of the CUDA library's C interface (`cuda/flatmin_cuda.h`, which says what everything means).
//! Everything above this file is safe.

use std::ffi::{c_char, c_int, c_void};

use torch_sys::C_tensor;

/// Of this file and the header.
pub const ABI: u32 = 4;

pub const FLOAT32: i32 = 0;
pub const FLOAT64: i32 = 1;
pub const BFLOAT16: i32 = 2;

/// Terms of a blend.
pub const TERMS: usize = 4;
/// Channels of an image.
pub const CHANNELS: usize = 4;

/// A `cudaStream_t`.
pub type RawStream = *mut c_void;

/// 0, or 1 and a message.
pub type Status = c_int;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Segment {
    pub offset: i64,
    pub len: i64,
    pub filter: i64,
    pub first_filter: i64,
    pub geometry: i32,
    pub group: i32,
    pub perturbed: i32,
    pub half: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Block {
    pub start: i64,
    pub len: i32,
    pub segment: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Cut {
    pub segments: *const Segment,
    pub blocks: *const Block,
    pub segment_count: i32,
    pub block_count: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arenas {
    pub master: *mut c_void,
    pub working: *mut c_void,
    pub working_half: *mut u16,
    pub number: i32,
}

pub const ABSENT: i64 = 0;
pub const FULL: i64 = 1;
pub const HALF: i64 = 2;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Source {
    pub data: *const c_void,
    pub kind: i64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Term {
    pub table: *const Source,
    pub by_group: *const f64,
    pub coefficient: f64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Blend {
    pub terms: [Term; TERMS],
    pub count: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Scratch {
    pub partials: *mut f64,
    pub counter: *mut u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ball {
    pub groups: *const f64,
    pub coefficients: *mut f64,
    pub p: f64,
    pub guard: f64,
    pub group_count: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Displacement {
    pub coefficients: *const f64,
    pub filter_scales: *const c_void,
    pub mask_seed: *const u64,
    pub eta: f64,
    pub exponent: f64,
    pub keep: f64,
    pub shape: i32,
    pub origin: i32,
    pub mask: i32,
    pub round_trip: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sgd {
    pub groups: *const f64,
    pub momentum: *mut c_void,
    pub counts: *mut i64,
    pub decoupled: i32,
    pub nesterov: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Adam {
    pub groups: *const f64,
    pub first_moment: *mut c_void,
    pub second_moment: *mut c_void,
    pub counts: *mut i64,
    pub decoupled: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Norm {
    pub gamma: *const c_void,
    pub beta: *const c_void,
    pub running_mean: *mut c_void,
    pub running_variance: *mut c_void,
    pub saved: *mut c_void,
    pub momentum: f64,
    pub eps: f64,
    pub rows: i64,
    pub channels: i32,
    pub number: i32,
    pub relu: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct NormBackward {
    pub x: *const c_void,
    pub dy: *const c_void,
    pub y: *const c_void,
    pub saved: *const c_void,
    pub dx: *mut c_void,
    pub residual: *mut c_void,
    pub dgamma: *mut c_void,
    pub dbeta: *mut c_void,
    pub coefficients: *mut c_void,
    pub rows: i64,
    pub channels: i32,
    pub number: i32,
    pub relu: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct CrossEntropy {
    pub logits: *const c_void,
    pub labels: *const i64,
    pub loss: *mut c_void,
    pub log_sum: *mut c_void,
    pub correct: *mut i64,
    pub smoothing: f64,
    pub rows: i64,
    pub classes: i32,
    pub number: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Draw {
    pub seed: *const u64,
    pub value: u64,
    pub stream: u64,
    pub low: f64,
    pub high: f64,
    pub keep: f64,
    pub out: *mut c_void,
    pub len: i64,
    pub number: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Images {
    pub pixels: *const u8,
    pub labels: *const i64,
    pub count: i64,
    pub gain: [f32; CHANNELS],
    pub bias: [f32; CHANNELS],
    pub height: i32,
    pub width: i32,
    pub channels: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Augment {
    pub order: *const i32,
    pub order_len: i64,
    pub feed: *mut i64,
    pub out: *mut c_void,
    pub labels: *mut i64,
    pub seed: u64,
    pub batch: i32,
    pub number: i32,
    pub padding: i32,
    pub flip: i32,
    pub cutout: i32,
    pub advance: i32,
}

/// Step records (`flatmin_step`) and groups (`flatmin_group`) are doubles throughout.
type Step = *mut f64;

#[repr(C)]
pub struct Kernels {
    pub abi: u32,
    pub last_error: extern "C" fn() -> *const c_char,
    pub block_len: i64,
    pub arena_scratch: extern "C" fn(i64) -> i64,
    pub norm_scratch: extern "C" fn(i64, i64) -> i64,
    pub cross_entropy_scratch: extern "C" fn(i64) -> i64,
    pub write_table: extern "C" fn(RawStream, *mut Source, i64, *const Source) -> Status,
    #[rustfmt::skip]
    pub norms: extern "C" fn(
        RawStream, *const Cut, *const Arenas, *const Blend, f64, *mut c_void, *const Scratch, Step, i32, *const Ball,
    ) -> Status,
    #[rustfmt::skip]
    pub dual_norm: extern "C" fn(
        RawStream, *const Cut, *const Arenas, *const Blend, f64, *const c_void, *const Scratch, Step, *const Ball,
    ) -> Status,
    #[rustfmt::skip]
    pub correct_rounding: extern "C" fn(
        RawStream, *const Cut, *const Arenas, *const Blend, *const Displacement, *const Scratch, Step, i32,
    ) -> Status,
    #[rustfmt::skip]
    pub perturb: extern "C" fn(
        RawStream, *const Cut, *const Arenas, *const Blend, *const Displacement, *const f64,
    ) -> Status,
    #[rustfmt::skip]
    pub sgd: extern "C" fn(
        RawStream, *const Cut, *const Arenas, *const Blend, *const Sgd, *const Scratch, Step,
    ) -> Status,
    #[rustfmt::skip]
    pub adam: extern "C" fn(
        RawStream, *const Cut, *const Arenas, *const Blend, *const Adam, *const Scratch, Step,
    ) -> Status,
    pub restore: extern "C" fn(RawStream, *const Cut, *const Arenas) -> Status,
    pub assign: extern "C" fn(RawStream, *const Cut, *const Arenas, *const Blend, *mut c_void) -> Status,
    pub translate: extern "C" fn(RawStream, *const Cut, *const Arenas, *const Blend) -> Status,
    #[rustfmt::skip]
    pub products: extern "C" fn(
        RawStream, *const Cut, *const Arenas, *const Blend, *const Blend, *const Scratch, *mut f64,
    ) -> Status,
    pub clip: extern "C" fn(RawStream, *const f64, f64, f64, i32, *mut f64) -> Status,
    pub commit: extern "C" fn(RawStream, *const f64, *mut c_void, *const c_void, i64, i32) -> Status,
    #[rustfmt::skip]
    pub norm_forward: extern "C" fn(
        RawStream, *const Norm, *const c_void, *const c_void, *mut c_void, *const Scratch,
    ) -> Status,
    pub norm_backward: extern "C" fn(RawStream, *const NormBackward, *const Scratch) -> Status,
    pub cross_entropy: extern "C" fn(RawStream, *const CrossEntropy, *const Scratch) -> Status,
    pub cross_entropy_backward: extern "C" fn(RawStream, *const CrossEntropy, *const c_void, *mut c_void) -> Status,
    pub draw: extern "C" fn(RawStream, *const Draw) -> Status,
    pub augment: extern "C" fn(RawStream, *const Images, *const Augment, *const Scratch) -> Status,
}

#[repr(C)]
pub struct Device {
    pub name: [c_char; 256],
    pub memory: u64,
    pub major: i32,
    pub minor: i32,
    pub processors: i32,
    pub l2_bytes: i32,
}

#[repr(C)]
#[derive(Default)]
pub struct Memory {
    pub allocated: u64,
    pub allocated_peak: u64,
    pub reserved: u64,
    pub reserved_peak: u64,
    pub retries: u64,
}

/// An object of the library's, behind a pointer.
pub type Handle = *mut c_void;

#[repr(C)]
pub struct Runtime {
    pub abi: u32,
    pub last_error: extern "C" fn() -> *const c_char,
    pub versions: extern "C" fn(*mut i32, *mut i32) -> Status,
    pub device_count: extern "C" fn(*mut i32) -> Status,
    pub device: extern "C" fn(i32, *mut Device) -> Status,
    pub memory: extern "C" fn(i32, *mut Memory) -> Status,
    pub stream_from_pool: extern "C" fn(i32, *mut Handle) -> Status,
    pub stream_new: extern "C" fn(i32, *mut Handle) -> Status,
    pub stream_current: extern "C" fn(i32, *mut Handle) -> Status,
    pub stream_set_current: extern "C" fn(Handle) -> Status,
    pub stream_synchronize: extern "C" fn(Handle) -> Status,
    pub stream_free: extern "C" fn(Handle),
    pub current_raw: extern "C" fn(i32, *mut RawStream) -> Status,
    pub event_new: extern "C" fn(*mut Handle) -> Status,
    pub event_record: extern "C" fn(Handle, Handle) -> Status,
    pub event_wait: extern "C" fn(Handle, Handle) -> Status,
    pub event_free: extern "C" fn(Handle),
    pub pinned_like: extern "C" fn(*const C_tensor, *mut *mut C_tensor) -> Status,
    pub copy_async: extern "C" fn(*const C_tensor, *const C_tensor, Handle) -> Status,
    pub record_stream: extern "C" fn(*const C_tensor, Handle) -> Status,
    pub graph_new: extern "C" fn(*mut Handle) -> Status,
    pub graph_begin: extern "C" fn(Handle, Handle) -> Status,
    pub graph_end: extern "C" fn(Handle) -> Status,
    pub graph_replay: extern "C" fn(Handle) -> Status,
    pub graph_free: extern "C" fn(Handle),
}

unsafe extern "C" {
    /// Compiled into this crate by its build script.
    pub fn flatmin_twin_kernels() -> *const Kernels;

    // shim/device.cpp
    pub fn flatmin_device_norm_act(
        kernels: *const Kernels,
        x: *const C_tensor,
        residual: *const C_tensor,
        gamma: *const C_tensor,
        beta: *const C_tensor,
        running_mean: *const C_tensor,
        running_variance: *const C_tensor,
        momentum: f64,
        eps: f64,
        relu: c_int,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub fn flatmin_device_cross_entropy(
        kernels: *const Kernels,
        logits: *const C_tensor,
        labels: *const C_tensor,
        smoothing: f64,
        correct: *const C_tensor,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
}
