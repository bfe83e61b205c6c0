//! Copies of numbers to a device. With the CUDA library they run beside what the device computes: through page-locked memory,
//! in a stream of their own.

use std::cell::OnceCell;

use tch::kind::Element;
use tch::{Device, Tensor};

use super::library::Cuda;
use super::stream::{Event, Stream, pinned_copy};
use crate::error::Result;

pub struct Uploader {
    device: Device,
    /// On a GPU, with the library.
    beside: Option<Beside>,
}

struct Beside {
    cuda: Cuda,
    index: usize,
    /// Torch's pool has few, so none is taken before there is something to copy.
    stream: OnceCell<Stream>,
}

/// A tensor on its way.
pub struct Upload {
    tensor: Tensor,
    copied: Option<Event>,
}

impl Uploader {
    pub fn new(device: Device, cuda: Option<Cuda>) -> Self {
        let beside = match (device, cuda) {
            (Device::Cuda(index), Some(cuda)) => Some(Beside { cuda, index, stream: OnceCell::new() }),
            _ => None,
        };
        Self { device, beside }
    }

    /// Begins to copy numbers, which may change as soon as this returns. Not while a graph is captured.
    pub fn begin<T: Element>(&self, values: &[T]) -> Result<Upload> {
        let Some(beside) = &self.beside else {
            let tensor = Tensor::f_from_slice(values)?.f_to_device(self.device)?;
            return Ok(Upload { tensor, copied: None });
        };
        let (stream, Beside { cuda, index, .. }) = (beside.stream()?, beside);
        let size = [values.len() as i64];
        // SAFETY: the tensor is read only, and gone before the borrow ends.
        let borrowed = unsafe { Tensor::f_from_blob(values.as_ptr().cast(), &size, &[1], T::KIND, Device::Cpu)? };
        let pinned = pinned_copy(*cuda, &borrowed)?;
        let mut tensor = Tensor::f_empty(size, (T::KIND, self.device))?;
        // Its memory may have been another tensor's, which is read until here.
        let mut event = Event::new(*cuda)?;
        event.record(&Stream::current(*cuda, *index)?)?;
        event.hold(stream)?;
        stream.copy(&mut tensor, &pinned)?;
        // Should it be dropped on the way.
        stream.keep(&tensor)?;
        event.record(stream)?;
        Ok(Upload { tensor, copied: Some(event) })
    }

    /// The numbers, one after the other, for what this thread queues in its current stream from now on.
    pub fn end(&self, upload: Upload) -> Result<Tensor> {
        let Upload { tensor, copied } = upload;
        if let (Some(Beside { cuda, index, .. }), Some(copied)) = (&self.beside, copied) {
            copied.hold(&Stream::current(*cuda, *index)?)?;
        }
        Ok(tensor)
    }
}

impl Beside {
    fn stream(&self) -> Result<&Stream> {
        if let Some(stream) = self.stream.get() {
            return Ok(stream);
        }
        let stream = Stream::from_pool(self.cuda, self.index)?;
        Ok(self.stream.get_or_init(|| stream))
    }
}
