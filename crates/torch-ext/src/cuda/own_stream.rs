//! A stream that one owner has for itself. Torch's pool hands its streams out again and again; but what a graph was recorded with
//! (workspaces of matrix products) is forgotten with the first graph of the same stream that is freed, and no other thread may queue
//! anything in a stream that is being recorded.

use std::sync::Arc;

use parking_lot::Mutex;

use super::library::Cuda;
use super::stream::{Event, Stream};
use crate::error::Result;

/// Streams that were given back, with their device.
static IDLE: Mutex<Vec<(usize, Arc<Stream>)>> = Mutex::new(Vec::new());

/// Given back when dropped: graphs that were recorded on it must be freed before.
pub struct OwnStream {
    cuda: Cuda,
    device: usize,
    stream: Arc<Stream>,
    fence: Event,
}

/// As long as it lives, this thread's operations go to the stream; then where they went before.
pub struct Entered {
    before: Stream,
}

impl OwnStream {
    /// # Errors
    /// If there is no such device.
    pub fn new(cuda: Cuda, device: usize) -> Result<Self> {
        let fence = Event::new(cuda)?;
        let idle = {
            let mut idle = IDLE.lock();
            idle.iter().position(|(of, _)| *of == device).map(|position| idle.swap_remove(position).1)
        };
        let stream = idle.map_or_else(|| Stream::new(cuda, device).map(Arc::new), Ok)?;
        Ok(Self { cuda, device, stream, fence })
    }

    pub fn cuda(&self) -> Cuda {
        self.cuda
    }

    /// What is queued in it from now on follows what this thread has queued so far.
    pub fn enter(&mut self) -> Result<Entered> {
        let before = Stream::current(self.cuda, self.device)?;
        self.fence.record(&before)?;
        self.fence.hold(&self.stream)?;
        self.stream.make_current()?;
        Ok(Entered { before })
    }

    /// Waits for everything that was queued in it.
    pub fn synchronize(&self) -> Result<()> {
        self.stream.synchronize()
    }
}

impl Drop for OwnStream {
    fn drop(&mut self) {
        IDLE.lock().push((self.device, Arc::clone(&self.stream)));
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // It fails only where the device is lost, which the next call tells.
        let _ = self.before.make_current();
    }
}
