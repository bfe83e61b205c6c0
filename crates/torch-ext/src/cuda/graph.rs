//! CUDA graphs: work that is recorded once and then replayed with a single launch, by torch's own `CUDAGraph`, which keeps
//! memory right.

use super::ffi::Handle;
use super::library::Cuda;
use crate::error::Result;

/// A recording of what a stream was given. Tensors made meanwhile keep their addresses as long as the graph lives.
pub struct Graph {
    cuda: Cuda,
    handle: Handle,
    under_way: bool,
}

// SAFETY: used through &mut by one thread at a time.
unsafe impl Send for Graph {}

impl Graph {
    pub fn new(cuda: Cuda) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        cuda.check((cuda.runtime.graph_new)(&mut handle))?;
        Ok(Self { cuda, handle, under_way: false })
    }

    /// Begins to record what this thread queues in its current stream, which must not be the default one; nothing of it
    /// runs. Other threads may go on using the device. First waits for the stream, and gives cached memory back to the driver.
    ///
    /// Memory is shared with `other`, a graph that is ready and is never replayed at the same time: nothing that a replay makes there
    /// may be read after the other's.
    pub fn begin(&mut self, other: Option<&Self>) -> Result<()> {
        let other = other.map_or(std::ptr::null_mut(), |other| other.handle);
        self.cuda.check((self.cuda.runtime.graph_begin)(self.handle, other))?;
        self.under_way = true;
        Ok(())
    }

    /// Ends the recording and makes it ready to be replayed. Where that fails, the device goes on as before.
    pub fn end(&mut self) -> Result<()> {
        self.under_way = false;
        self.cuda.check((self.cuda.runtime.graph_end)(self.handle))
    }

    /// Queues what was recorded in the current stream.
    pub fn replay(&mut self) -> Result<()> {
        self.cuda.check((self.cuda.runtime.graph_replay)(self.handle))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.under_way {
            // Nobody wants it.
            let _ = self.end();
        }
        (self.cuda.runtime.graph_free)(self.handle);
    }
}
