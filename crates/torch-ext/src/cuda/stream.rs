//! Streams, events, and copies that run beside the work of other streams.

use tch::{Tensor, no_grad};

use super::ffi::Handle;
use super::library::Cuda;
use crate::error::Result;

/// A queue of a GPU. Torch keeps the stream itself; this names it.
pub struct Stream {
    cuda: Cuda,
    handle: Handle,
}

// SAFETY: a name of a stream; CUDA's calls on it are thread-safe.
unsafe impl Send for Stream {}
unsafe impl Sync for Stream {}

impl Stream {
    /// One of torch's pool, which hands out 32 in turn.
    pub fn from_pool(cuda: Cuda, device: usize) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        cuda.check((cuda.runtime.stream_from_pool)(device as i32, &mut handle))?;
        Ok(Self { cuda, handle })
    }

    /// A new one, which torch hands out to nobody else. It stays until the process ends: torch may remember it.
    pub(super) fn new(cuda: Cuda, device: usize) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        cuda.check((cuda.runtime.stream_new)(device as i32, &mut handle))?;
        Ok(Self { cuda, handle })
    }

    /// The one that this thread's operations on the device go to.
    pub fn current(cuda: Cuda, device: usize) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        cuda.check((cuda.runtime.stream_current)(device as i32, &mut handle))?;
        Ok(Self { cuda, handle })
    }

    /// Makes its device this thread's, and sends the thread's operations there here from now on.
    pub fn make_current(&self) -> Result<()> {
        self.cuda.check((self.cuda.runtime.stream_set_current)(self.handle))
    }

    /// Waits for everything that was queued here.
    pub fn synchronize(&self) -> Result<()> {
        self.cuda.check((self.cuda.runtime.stream_synchronize)(self.handle))
    }

    /// to = from, queued here. `from` may be [`pinned_like`] memory, which must stay as it is until the copy is done; from
    /// other memory of the CPU the call waits.
    pub(super) fn copy(&self, to: &mut Tensor, from: &Tensor) -> Result<()> {
        self.cuda.check((self.cuda.runtime.copy_async)(to.as_ptr(), from.as_ptr(), self.handle))
    }

    /// Keeps a tensor's memory, even if the tensor is dropped, until what is queued here now is done.
    pub(super) fn keep(&self, tensor: &Tensor) -> Result<()> {
        self.cuda.check((self.cuda.runtime.record_stream)(tensor.as_ptr(), self.handle))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        (self.cuda.runtime.stream_free)(self.handle);
    }
}

/// A tensor of the same shape and dtype in page-locked memory of the CPU. Not while a graph is captured.
pub(super) fn pinned_like(cuda: Cuda, tensor: &Tensor) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    cuda.check((cuda.runtime.pinned_like)(tensor.as_ptr(), &mut out))?;
    // SAFETY: a new tensor, which the returned value owns.
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// A copy of a tensor in page-locked memory of the CPU, from torch's cache, which gives this memory to nobody else before what is copied
/// from it has arrived. Not while a graph is captured.
pub(super) fn pinned_copy(cuda: Cuda, tensor: &Tensor) -> Result<Tensor> {
    let mut pinned = pinned_like(cuda, tensor)?;
    no_grad(|| pinned.f_copy_(tensor))?;
    Ok(pinned)
}

/// A point in a stream's queue.
pub struct Event {
    cuda: Cuda,
    handle: Handle,
}

// SAFETY: CUDA's calls on events are thread-safe; recording takes &mut.
unsafe impl Send for Event {}
unsafe impl Sync for Event {}

impl Event {
    pub fn new(cuda: Cuda) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        cuda.check((cuda.runtime.event_new)(&mut handle))?;
        Ok(Self { cuda, handle })
    }

    /// The end of what is queued in the stream now.
    pub fn record(&mut self, stream: &Stream) -> Result<()> {
        self.cuda.check((self.cuda.runtime.event_record)(self.handle, stream.handle))
    }

    /// What is queued in the stream from now on waits for the event.
    pub fn hold(&self, stream: &Stream) -> Result<()> {
        self.cuda.check((self.cuda.runtime.event_wait)(self.handle, stream.handle))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        (self.cuda.runtime.event_free)(self.handle);
    }
}
