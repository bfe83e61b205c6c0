//! What batches found, on the device where it was found: reading it waits for the device, so that of many batches is read together.

use flatmin_nn::Engine;

/// Batches that are read together. With more, what is sent to a device ahead could fill its memory.
const TOGETHER: usize = 16;

/// What was found of some batches, in order. What is left at the end is for [`Self::read`].
pub struct Unread<Found> {
    found: Vec<Found>,
    most: usize,
}

impl<Found> Unread<Found> {
    /// On the CPU there is nothing to wait for: each batch is read at once.
    pub fn new(engine: Engine) -> Self {
        let most = match engine {
            Engine::Cpu => 1,
            Engine::Torch(_) | Engine::Cuda(_) => TOGETHER,
        };
        Self { found: Vec::new(), most }
    }

    /// Adds what was found of a batch; `read` gets it and those before it once they are many.
    pub fn add<E>(&mut self, found: Found, read: impl FnMut(Found) -> Result<(), E>) -> Result<(), E> {
        self.found.push(found);
        if self.found.len() < self.most { Ok(()) } else { self.read(read) }
    }

    /// Hands all of them to `read`.
    pub fn read<E>(&mut self, read: impl FnMut(Found) -> Result<(), E>) -> Result<(), E> {
        self.found.drain(..).try_for_each(read)
    }
}
