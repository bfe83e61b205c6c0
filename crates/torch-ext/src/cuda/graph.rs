//! CUDA graphs: work that is recorded once and then replayed with a single launch, by torch's own `CUDAGraph`, which keeps
//! memory and random numbers right.

use super::ffi::Handle;
use super::library::Cuda;
use crate::error::Result;
use crate::generator::Generator;

/// A recording of what a stream was given. Tensors made meanwhile keep their addresses as long as the graph lives.
pub struct Graph {
    cuda: Cuda,
    handle: Handle,
}

// SAFETY: used through &mut by one thread at a time.
unsafe impl Send for Graph {}

impl Graph {
    pub fn new(cuda: Cuda) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        cuda.check((cuda.runtime.graph_new)(&mut handle))?;
        Ok(Self { cuda, handle })
    }

    /// Lets a generator of one's own draw new numbers at each replay, as the default ones do. Before [`Self::begin`].
    pub fn register(&mut self, generator: &Generator) -> Result<()> {
        self.cuda.check((self.cuda.runtime.graph_register_generator)(self.handle, generator.raw()))
    }

    /// Begins to record what this thread queues in its current stream, which must not be the default one; nothing of it
    /// runs. Other threads may go on using the device. `share`: takes its memory from the pool of that graph; the two must then
    /// be replayed in the order in which they were captured.
    pub fn begin(&mut self, share: Option<&Self>) -> Result<()> {
        let share = share.map_or(std::ptr::null_mut(), |graph| graph.handle);
        self.cuda.check((self.cuda.runtime.graph_begin)(self.handle, share))
    }

    /// Ends the recording and makes it ready to be replayed.
    pub fn end(&mut self) -> Result<()> {
        self.cuda.check((self.cuda.runtime.graph_end)(self.handle))
    }

    /// Queues what was recorded in the current stream.
    pub fn replay(&mut self) -> Result<()> {
        self.cuda.check((self.cuda.runtime.graph_replay)(self.handle))
    }

    /// Forgets the recording and gives its memory back.
    pub fn reset(&mut self) -> Result<()> {
        self.cuda.check((self.cuda.runtime.graph_reset)(self.handle))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        (self.cuda.runtime.graph_free)(self.handle);
    }
}

impl Cuda {
    /// A random generator of one's own on a GPU, with the streams of `torch.Generator("cuda").manual_seed(seed)`.
    pub fn generator(self, device: usize, seed: u64) -> Result<Generator> {
        let mut raw = std::ptr::null_mut();
        self.check((self.runtime.generator_new)(device as i32, seed, &mut raw))?;
        // SAFETY: a new at::Generator, which the returned value owns.
        Ok(unsafe { Generator::from_raw(raw) })
    }

    /// Seeds the default generators of all GPUs.
    pub fn seed(self, seed: u64) -> Result<()> {
        self.check((self.runtime.seed)(seed))
    }
}
