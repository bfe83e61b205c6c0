//! Where kernels run: a GPU, or the CPU with their twin. Tensors that a kernel is given must lie there.

use std::ffi::c_void;

use tch::{Device, Kind, Tensor};

use super::ffi::{self, RawStream};
use super::library::{Cuda, check};
use super::stream::{Stream, pinned_copy};
use crate::error::{Error, Result};

/// A device with its kernels.
#[derive(Clone, Copy)]
pub struct Place {
    pub(super) kernels: &'static ffi::Kernels,
    cuda: Option<Cuda>,
    device: Device,
}

impl Cuda {
    /// The GPU of this number.
    pub fn place(self, index: usize) -> Place {
        Place { kernels: self.kernels, cuda: Some(self), device: Device::Cuda(index) }
    }
}

impl Place {
    /// The same kernels on the CPU: for tests, one thread, no speed.
    pub fn twin() -> Self {
        // SAFETY: a table that lives as long as the process.
        let kernels = unsafe { &*ffi::flatmin_twin_kernels() };
        Self { kernels, cuda: None, device: Device::Cpu }
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// The library, on a GPU.
    pub fn cuda(&self) -> Option<Cuda> {
        self.cuda
    }

    /// Torch's current stream there, on which kernels are queued; null for the twin.
    pub(super) fn stream(&self) -> Result<RawStream> {
        let mut raw = std::ptr::null_mut();
        if let (Some(cuda), Device::Cuda(index)) = (self.cuda, self.device) {
            cuda.check((cuda.runtime.current_raw)(index as i32, &mut raw))?;
        }
        Ok(raw)
    }

    pub(super) fn check(&self, status: ffi::Status) -> Result<()> {
        check(status, self.kernels.last_error)
    }

    /// A tensor of the host there, for what this thread queues in its current stream from now on; nobody waits. No copy if it is there
    /// already. Not while a graph is captured.
    ///
    /// # Errors
    /// What libtorch answers.
    pub fn bring(&self, tensor: &Tensor) -> Result<Tensor> {
        let (Some(cuda), Device::Cuda(index), Device::Cpu) = (self.cuda, self.device, tensor.device()) else {
            return Ok(tensor.f_to_device(self.device)?);
        };
        let pinned = pinned_copy(cuda, tensor)?;
        let mut there = Tensor::f_empty(tensor.size(), (tensor.kind(), self.device))?;
        Stream::current(cuda, index)?.copy(&mut there, &pinned)?;
        Ok(there)
    }

    /// Zeros there.
    pub fn zeros(&self, shape: &[i64], kind: Kind) -> Result<Tensor> {
        Ok(Tensor::f_zeros(shape, (kind, self.device))?)
    }

    /// # Errors
    /// Unless the tensor lies here.
    pub(super) fn check_device(&self, tensor: &Tensor) -> Result<()> {
        if tensor.device() == self.device {
            return Ok(());
        }
        Err(Error::Argument {
            what: "the input's device",
            found: format!("{:?}", tensor.device()),
            expected: format!("{:?}", self.device),
        })
    }

    /// The address of a dense tensor, if it is of this dtype, lies here and has this many elements.
    pub(super) fn address(&self, what: &'static str, tensor: &Tensor, kind: Kind, len: usize) -> Result<*mut c_void> {
        let fits = tensor.kind() == kind && tensor.device() == self.device && tensor.numel() == len;
        if fits {
            return Ok(tensor.data_ptr());
        }
        let form = |kind: Kind, device: Device, len: usize| format!("{len} elements of {kind:?} on {device:?}");
        Err(Error::Argument {
            what,
            found: form(tensor.kind(), tensor.device(), tensor.numel()),
            expected: form(kind, self.device, len),
        })
    }
}

/// The number format of a dtype, as the kernels count them.
pub(super) fn number(what: &'static str, kind: Kind) -> Result<i32> {
    match kind {
        Kind::Float => Ok(ffi::FLOAT32),
        Kind::Double => Ok(ffi::FLOAT64),
        Kind::BFloat16 => Ok(ffi::BFLOAT16),
        other => Err(Error::Argument {
            what,
            found: format!("dtype {other:?}"),
            expected: "float32, float64 or bfloat16".into(),
        }),
    }
}
