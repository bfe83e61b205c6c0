//! The running statistics of all batch norms of a model in one flat arena, committed and staged. A training pass writes
//! the staged copy, which becomes real only once the step proved finite: a skipped step cannot poison the statistics.

use std::cell::Cell;

use tch::{Device, Tensor, no_grad};

use crate::arena::ALIGNMENT;
use crate::dtype::Dtype;
use crate::error::Result;

/// The running statistics of one batch norm, `[channels]` each.
#[derive(Debug)]
pub struct RunningStatistics {
    pub mean: Tensor,
    pub variance: Tensor,
}

/// One flat arena and its views.
struct Side {
    arena: Tensor,
    layers: Vec<RunningStatistics>,
}

impl Side {
    /// Means 0, variances 1, as PyTorch starts them.
    fn new(channels: &[i64], dtype: Dtype, device: Device) -> Result<Self> {
        let aligned = |size: i64| (size as usize).next_multiple_of(ALIGNMENT) as i64;
        let length = channels.iter().map(|&size| 2 * aligned(size)).sum::<i64>();
        let arena = Tensor::f_zeros([length], (dtype.kind(), device))?;
        let mut layers = Vec::with_capacity(channels.len());
        let mut offset = 0;
        for &size in channels {
            let mean = arena.f_narrow(0, offset, size)?;
            let mut variance = arena.f_narrow(0, offset + aligned(size), size)?;
            let _ = variance.f_fill_(1.0)?;
            layers.push(RunningStatistics { mean, variance });
            offset += 2 * aligned(size);
        }
        Ok(Self { arena, layers })
    }
}

/// All running statistics of one model. Batch norms are counted in the order of the spec.
pub struct BufferArena {
    names: Vec<String>,
    committed: Side,
    staged: Side,
    /// Passes staged since the last commit. The staged copy is stale while this is 0.
    staged_passes: Cell<i64>,
    batches_tracked: Vec<i64>,
    frozen: Vec<bool>,
}

impl BufferArena {
    /// Places the statistics of batch norms, given as (name, channels).
    ///
    /// # Errors
    /// If there is no memory.
    pub(crate) fn new(norms: &[(String, i64)], dtype: Dtype) -> Result<Self> {
        let channels: Vec<i64> = norms.iter().map(|norm| norm.1).collect();
        Ok(Self {
            names: norms.iter().map(|norm| norm.0.clone()).collect(),
            committed: Side::new(&channels, dtype, Device::Cpu)?,
            staged: Side::new(&channels, dtype, Device::Cpu)?,
            staged_passes: Cell::new(0),
            batches_tracked: vec![0; norms.len()],
            frozen: vec![false; norms.len()],
        })
    }

    /// Moves the committed statistics to a device; staged ones are forgotten.
    pub(crate) fn to(&mut self, device: Device, dtype: Dtype) -> Result<()> {
        let channels: Vec<i64> = self.committed.layers.iter().map(|layer| layer.mean.numel() as i64).collect();
        let mut committed = Side::new(&channels, dtype, device)?;
        no_grad(|| committed.arena.f_copy_(&self.committed.arena))?;
        (self.committed, self.staged) = (committed, Side::new(&channels, dtype, device)?);
        self.discard();
        Ok(())
    }

    /// Batch norms.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The dotted name of a batch norm.
    pub fn name(&self, norm: usize) -> &str {
        &self.names[norm]
    }

    /// Means and variances of all layers, without the gaps of the alignment.
    pub fn element_count(&self) -> usize {
        self.committed.layers.iter().map(|layer| 2 * layer.mean.numel()).sum()
    }

    /// What evaluation uses.
    pub fn committed(&self, norm: usize) -> &RunningStatistics {
        &self.committed.layers[norm]
    }

    /// What a training pass updates, once [`Self::begin_pass`] was called.
    pub(crate) fn staged(&self, norm: usize) -> &RunningStatistics {
        &self.staged.layers[norm]
    }

    /// Batches that the statistics of a batch norm have seen.
    pub fn batches_tracked(&self, norm: usize) -> i64 {
        self.batches_tracked[norm]
    }

    pub fn set_batches_tracked(&mut self, norm: usize, count: i64) {
        self.batches_tracked[norm] = count;
    }

    /// Whether a batch norm normalises with its running statistics in training, too, and leaves them alone.
    pub fn is_frozen(&self, norm: usize) -> bool {
        self.frozen[norm]
    }

    pub(crate) fn set_frozen(&mut self, norm: usize, frozen: bool) {
        self.frozen[norm] = frozen;
    }

    /// The committed statistics as they lie in memory, 1-D; models of one spec have the same offsets.
    pub fn arena(&self) -> &Tensor {
        &self.committed.arena
    }

    /// Where both copies of the statistics lie, the lower address first; [`Self::commit`] swaps them.
    pub fn addresses(&self) -> [usize; 2] {
        let mut both = [&self.committed, &self.staged].map(|side| side.arena.data_ptr() as usize);
        both.sort_unstable();
        both
    }

    /// Passes staged since the last commit.
    pub fn staged_passes(&self) -> i64 {
        self.staged_passes.get()
    }

    /// Prepares the staged copy for one more pass. The first pass of a step starts from the committed statistics, the
    /// others (micro-batches) go on from the one before.
    pub(crate) fn begin_pass(&self) -> Result<()> {
        if self.staged_passes.get() == 0 {
            no_grad(|| self.staged.arena.shallow_clone().f_copy_(&self.committed.arena))?;
        }
        self.staged_passes.set(self.staged_passes.get() + 1);
        Ok(())
    }

    /// Makes the staged statistics real. Nothing happens if no pass staged any.
    pub fn commit(&mut self) {
        let passes = self.staged_passes.take();
        if passes == 0 {
            return;
        }
        std::mem::swap(&mut self.committed, &mut self.staged);
        self.count(passes);
    }

    /// The staged statistics, laid out as [`Self::arena`]; None while no pass has staged any.
    pub fn staged_arena(&self) -> Option<&Tensor> {
        (self.staged_passes.get() > 0).then_some(&self.staged.arena)
    }

    /// As [`Self::commit`], by a caller who copies them: what so many passes staged now lies in [`Self::arena`].
    pub fn count(&mut self, passes: i64) {
        self.staged_passes.set(0);
        for (count, _) in self.batches_tracked.iter_mut().zip(&self.frozen).filter(|(_, frozen)| !**frozen) {
            *count += passes;
        }
    }

    /// Forgets the staged statistics.
    pub fn discard(&mut self) {
        self.staged_passes.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> BufferArena {
        BufferArena::new(&[("bn1".into(), 3), ("bn2".into(), 40)], Dtype::Float64).unwrap()
    }

    fn stage(buffers: &BufferArena, value: f64) {
        buffers.begin_pass().unwrap();
        let _ = buffers.staged(0).mean.shallow_clone().f_add_scalar_(value).unwrap();
    }

    fn mean(buffers: &BufferArena) -> f64 {
        buffers.committed(0).mean.double_value(&[0])
    }

    #[test]
    fn starts_as_pytorch_does() {
        let buffers = arena();
        assert_eq!((buffers.len(), buffers.name(1), buffers.element_count()), (2, "bn2", 86));
        for norm in 0..2 {
            let statistics = buffers.committed(norm);
            assert_eq!(f64::try_from(statistics.mean.abs().max()).unwrap(), 0.0);
            assert_eq!(f64::try_from((&statistics.variance - 1.0).abs().max()).unwrap(), 0.0);
        }
    }

    #[test]
    fn only_a_commit_makes_statistics_real() {
        let mut buffers = arena();
        stage(&buffers, 1.0);
        assert_eq!(mean(&buffers), 0.0);
        buffers.discard();
        buffers.commit();
        assert_eq!((mean(&buffers), buffers.batches_tracked(0)), (0.0, 0));
        stage(&buffers, 2.0);
        stage(&buffers, 3.0);
        buffers.commit();
        assert_eq!((mean(&buffers), buffers.batches_tracked(1)), (5.0, 2));
        stage(&buffers, 1.0);
        buffers.commit();
        assert_eq!((mean(&buffers), buffers.batches_tracked(1)), (6.0, 3));
    }
}
