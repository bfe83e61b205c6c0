//! All parameters of a model in one flat *master* arena, and the *working* arena that the network reads.
//!
//! The ascent step of SAM writes working = master + eps and leaves the master alone, the descent step updates the master.
//! So weights return to w bit for bit with no saved copy, a checkpoint never holds perturbed weights, and every update is a
//! linear pass over memory. On the CPU the network reads the master itself at w ([`Standing`]), so that nothing need be
//! written to return; elsewhere it reads working always, as recorded graphs keep addresses, and the descent rewrites it.
//!
//! A model that computes in 16 bits reads matrices and filters from a second side of the working arena, of that format. Gammas,
//! biases and betas stay float32, as does the master: updates far below a rounded weight's resolution add up there.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;

use flatmin_torch_ext::{bump_version, clear_grad, set_grad};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use crate::dtype::Dtype;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Segments start at multiples of this many elements, so that vector loads are aligned.
pub const ALIGNMENT: usize = 32;

/// What a parameter is, for options and for rules such as "biases are not rescaled" or "no weight decay on norms".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ParamKind {
    /// Convolution filters, `[out, in / groups, height, width]`.
    ConvWeight,
    /// `[out, in]`.
    LinearWeight,
    /// gamma of a normalisation layer.
    NormWeight,
    /// Bias of a convolution or linear layer.
    Bias,
    /// beta of a normalisation layer.
    NormBias,
    /// Factors of a layer scale.
    LayerScale,
    /// Learnt vectors that join or are added to the tokens: class token, positions.
    Embedding,
}

impl ParamKind {
    /// False for biases and beta, which ASAM leaves unscaled (Kwon 2021, section 4), and for embeddings, which are added as
    /// biases are. A layer scale multiplies, as gamma does.
    pub fn is_weight(self) -> bool {
        !matches!(self, Self::Bias | Self::NormBias | Self::Embedding)
    }
}

/// A parameter to be placed: its name as PyTorch has it, shape and kind.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamSpec {
    pub name: String,
    pub shape: Vec<i64>,
    pub kind: ParamKind,
}

/// Where a parameter lies in the arena. Offsets and lengths are in elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    pub name: String,
    pub shape: Vec<i64>,
    pub kind: ParamKind,
    pub offset: usize,
    pub len: usize,
    pub memory_format: MemoryFormat,
}

/// How 4-D weights lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryFormat {
    /// As their gradients arrive where activations are channels-last.
    ChannelsLast,
    /// In the order of their dimensions, for code that counts on it.
    Contiguous,
}

impl Segment {
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }

    /// Strides of the parameter.
    pub fn strides(&self) -> Vec<i64> {
        if let (&[_, inputs, height, width], MemoryFormat::ChannelsLast) = (&self.shape[..], self.memory_format) {
            return vec![inputs * height * width, 1, width * inputs, inputs];
        }
        let mut strides = vec![1; self.shape.len()];
        for axis in (1..self.shape.len()).rev() {
            strides[axis - 1] = strides[axis] * self.shape[axis];
        }
        strides
    }

    /// Whether the network reads the parameter in 16 bits: matrices and filters of a model of such a dtype.
    pub fn is_half(&self, dtype: Dtype) -> bool {
        dtype.is_half() && matches!(self.kind, ParamKind::ConvWeight | ParamKind::LinearWeight)
    }

    fn view_of(&self, arena: &Tensor) -> Result<Tensor> {
        Ok(arena.f_as_strided(&self.shape, self.strides(), self.offset as i64)?)
    }
}

/// The flat parameters of one model. `[length]` each for master and working, the same offsets in all arenas.
pub struct ParameterArena {
    dtype: Dtype,
    engine: Engine,
    segments: Vec<Segment>,
    index: HashMap<String, usize>,
    memory: Memory,
}

/// Which arena the network reads. Segments that it reads in 16 bits stay where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// At w.
    Master,
    /// At w + eps; at w, too, where [`ParameterArena::stand`] has no effect.
    Working,
}

/// The arenas on one device, and the views of them that the network reads.
struct Memory {
    master: Tensor,
    working: Tensor,
    half: Option<Tensor>,
    leaves: Vec<Tensor>,
    /// What a leaf can show; None for those of 16 bits.
    views: Vec<Option<Views>>,
    standing: Cell<Standing>,
}

/// One parameter in both arenas.
struct Views {
    master: Tensor,
    working: Tensor,
}

impl Memory {
    /// Zero-filled.
    fn new(segments: &[Segment], dtype: Dtype, device: Device) -> Result<Self> {
        let end = segments.iter().map(|segment| segment.range().end).max().unwrap_or(0);
        let length = end.next_multiple_of(ALIGNMENT) as i64;
        let zeros = || Tensor::f_zeros([length], (dtype.kind(), device));
        let (master, working) = (zeros()?, zeros()?);
        let half_end =
            segments.iter().filter(|segment| segment.is_half(dtype)).map(|segment| segment.range().end).max();
        let half = half_end.map(|end| Tensor::f_zeros([end as i64], (dtype.compute_kind(), device))).transpose()?;
        let side = |segment: &Segment| half.as_ref().filter(|_| segment.is_half(dtype));
        let leaf = |segment: &Segment| {
            Ok(segment.view_of(side(segment).unwrap_or(&working))?.f_detach()?.f_set_requires_grad(true)?)
        };
        let views = |segment: &Segment| {
            let both = || Ok(Views { master: segment.view_of(&master)?, working: segment.view_of(&working)? });
            side(segment).is_none().then(both).transpose()
        };
        let leaves = segments.iter().map(leaf).collect::<Result<_>>()?;
        let views = segments.iter().map(views).collect::<Result<_>>()?;
        Ok(Self { master, working, half, leaves, views, standing: Cell::new(Standing::Working) })
    }
}

impl ParameterArena {
    /// Places the parameters: matrices and filters first, then gammas, biases and betas; zero-filled.
    ///
    /// # Errors
    /// Two parameters of one name, an empty or negative shape, or no memory.
    pub fn new(params: &[ParamSpec], dtype: Dtype) -> Result<Self> {
        Self::with_format(params, dtype, MemoryFormat::ChannelsLast)
    }

    pub(crate) fn with_format(params: &[ParamSpec], dtype: Dtype, memory_format: MemoryFormat) -> Result<Self> {
        let mut order: Vec<&ParamSpec> = params.iter().collect();
        order.sort_by_key(|param| param.kind);
        let mut segments = Vec::with_capacity(order.len());
        let mut index = HashMap::new();
        let mut end = 0;
        for param in order {
            if param.shape.is_empty() || param.shape.iter().any(|&size| size < 1) {
                return Err(Error::shape(&param.name, &param.shape, "at least one dimension, all of them positive"));
            }
            if index.insert(param.name.clone(), segments.len()).is_some() {
                return Err(Error::option("layer name", &param.name, "each parameter to have a name of its own"));
            }
            let len = param.shape.iter().product::<i64>() as usize;
            segments.push(Segment {
                name: param.name.clone(),
                shape: param.shape.clone(),
                kind: param.kind,
                offset: end,
                len,
                memory_format,
            });
            end = (end + len).next_multiple_of(ALIGNMENT);
        }
        let engine = Engine::Cpu;
        let memory = Memory::new(&segments, dtype, engine.device())?;
        let arena = Self { dtype, engine, segments, index, memory };
        arena.stand(Standing::Master)?;
        Ok(arena)
    }

    /// Moves the arenas to where an engine computes: at w, no gradients.
    pub(crate) fn to(&mut self, engine: Engine) -> Result<()> {
        let mut moved = Memory::new(&self.segments, self.dtype, engine.device())?;
        no_grad(|| moved.master.f_copy_(&self.memory.master))?;
        for (leaf, old) in moved.leaves.iter().zip(&self.memory.leaves) {
            let _ = leaf.f_set_requires_grad(old.requires_grad())?;
        }
        (self.memory, self.engine) = (moved, engine);
        self.sync_working()
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// What computes the model that these are the parameters of.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Elements of an arena, the gaps of the alignment included.
    pub fn len(&self) -> usize {
        self.memory.master.numel()
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Trainable numbers, gaps not counted.
    pub fn parameter_count(&self) -> usize {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// What the network reads: views of an arena that collect gradients, in the order of the segments.
    pub fn leaves(&self) -> &[Tensor] {
        &self.memory.leaves
    }

    /// Whether backward passes give the parameter a gradient. Without one an optimizer leaves it alone.
    pub fn is_trainable(&self, position: usize) -> bool {
        self.memory.leaves[position].requires_grad()
    }

    pub(crate) fn set_trainable(&mut self, position: usize, trainable: bool) -> Result<()> {
        let leaf = self.memory.leaves[position].f_set_requires_grad(trainable)?;
        if !trainable {
            clear_grad(&leaf);
        }
        Ok(())
    }

    /// The master arena, 1-D.
    pub fn master(&self) -> &Tensor {
        &self.memory.master
    }

    /// The working arena, 1-D: w + eps between an ascent and a descent step, at other times out of use on the CPU and equal to
    /// the master elsewhere. Segments for which [`Segment::is_half`] holds lie in [`Self::working_half`] instead.
    pub fn working(&self) -> &Tensor {
        &self.memory.working
    }

    /// The arena that the network reads, the segments of 16 bits aside.
    pub fn standing(&self) -> &Tensor {
        match self.memory.standing.get() {
            Standing::Master => &self.memory.master,
            Standing::Working => &self.memory.working,
        }
    }

    /// Lets the network read an arena, whose numbers are in order. On the CPU alone: elsewhere it keeps reading working.
    pub fn stand(&self, standing: Standing) -> Result<()> {
        if self.engine != Engine::Cpu || self.memory.standing.replace(standing) == standing {
            return Ok(());
        }
        for (leaf, views) in self.memory.leaves.iter().zip(&self.memory.views) {
            let Some(views) = views else { continue };
            let view = if standing == Standing::Master { &views.master } else { &views.working };
            leaf.shallow_clone().f_set_data(view)?;
        }
        Ok(())
    }

    /// The side of the working arena that has 16 bits, 1-D, rounded to nearest even; it ends with the last segment that lies there.
    pub fn working_half(&self) -> Option<&Tensor> {
        self.memory.half.as_ref()
    }

    /// A zero-filled arena with the same offsets, for momenta and averages.
    pub fn like(&self) -> Result<Tensor> {
        Ok(self.memory.master.f_zeros_like()?)
    }

    /// A copy of a parameter's master values in PyTorch's layout, on the CPU.
    pub fn read(&self, position: usize) -> Result<Tensor> {
        self.read_from(&self.memory.master, position)
    }

    /// A parameter's segment of any arena with these offsets, in PyTorch's layout.
    pub fn view(&self, arena: &Tensor, position: usize) -> Result<Tensor> {
        self.segments[position].view_of(arena)
    }

    /// A copy of [`Self::view`] on the CPU.
    pub fn read_from(&self, arena: &Tensor, position: usize) -> Result<Tensor> {
        let view = self.view(arena, position)?;
        let mut copy = Tensor::f_empty(view.size(), (arena.kind(), Device::Cpu))?;
        copy.f_copy_(&view)?;
        Ok(copy)
    }

    /// Sets a parameter in the master and where the network reads it. The value is cast to the arena's dtype.
    ///
    /// # Errors
    /// `ERR_FLATMIN_SHAPE` if the shapes differ.
    pub fn write(&mut self, position: usize, value: &Tensor) -> Result<()> {
        self.write_to(&self.memory.master, position, value)?;
        self.sync(position)
    }

    /// Sets a parameter's segment of any arena with these offsets.
    pub fn write_to(&self, arena: &Tensor, position: usize, value: &Tensor) -> Result<()> {
        let segment = &self.segments[position];
        if value.size() != segment.shape {
            return Err(Error::shape(&segment.name, &value.size(), format!("{:?}", segment.shape)));
        }
        no_grad(|| segment.view_of(arena)?.f_copy_(value).map_err(Error::from))
    }

    /// arena += factor * tensors, one tensor a segment in PyTorch's layout; an undefined one counts as 0.
    pub fn add_to(&self, arena: &Tensor, tensors: &[Tensor], factor: f64) -> Result<()> {
        for (segment, tensor) in self.segments.iter().zip(tensors).filter(|(_, tensor)| tensor.defined()) {
            let _ = no_grad(|| segment.view_of(arena)?.f_add_(&tensor.f_mul_scalar(factor)?).map_err(Error::from))?;
        }
        Ok(())
    }

    /// Whether the network reads other weights than the master's: an ascent step has no descent step yet.
    pub fn is_perturbed(&self) -> Result<bool> {
        let differs = |(leaf, segment): (&Tensor, &Segment)| {
            let master = segment.view_of(&self.memory.master)?.f_to_kind(leaf.kind())?;
            Ok(!leaf.f_detach()?.f_equal(&master)?)
        };
        self.memory
            .leaves
            .iter()
            .zip(&self.segments)
            .map(differs)
            .try_fold(false, |any, one: Result<bool>| Ok(any || one?))
    }

    /// Lets the network read the master's numbers again: weights leave a perturbation, bit for bit.
    pub fn sync_working(&mut self) -> Result<()> {
        self.stand(Standing::Master)?;
        (0..self.segments.len()).try_for_each(|position| self.sync(position))
    }

    /// Lets the network read the numbers of an arena with these offsets, rounded where it reads 16 bits; the master stays.
    pub fn show(&self, arena: &Tensor) -> Result<()> {
        self.stand(Standing::Working)?;
        for (leaf, segment) in self.memory.leaves.iter().zip(&self.segments) {
            let numbers = segment.view_of(arena)?;
            no_grad(|| leaf.f_detach()?.f_copy_(&numbers))?;
        }
        Ok(())
    }

    fn sync(&self, position: usize) -> Result<()> {
        if self.memory.standing.get() == Standing::Master && self.memory.views[position].is_some() {
            return Ok(());
        }
        let master = self.segments[position].view_of(&self.memory.master)?;
        no_grad(|| self.memory.leaves[position].f_detach()?.f_copy_(&master))?;
        Ok(())
    }

    /// Tells autograd that the network reads other numbers: a kernel wrote them through a raw pointer, or leaves show another arena.
    pub fn bump_working_version(&self) {
        bump_version(&self.memory.working);
        if let Some(half) = &self.memory.half {
            bump_version(half);
        }
    }

    /// The gradients that the backward passes since the last clearing left, one a segment, each of its leaf's dtype; None
    /// where there was none.
    pub fn gradients(&self) -> Result<Gradients> {
        let tensors = self
            .memory
            .leaves
            .iter()
            .zip(&self.segments)
            .map(|(leaf, segment)| {
                let grad = leaf.f_grad()?;
                if !grad.defined() {
                    return Ok(None);
                }
                conform(grad, segment, leaf.kind()).map(Some)
            })
            .collect::<Result<_>>()?;
        Ok(Gradients { tensors })
    }

    /// Whether a backward pass left any since the last clearing.
    pub fn has_gradients(&self) -> Result<bool> {
        self.memory.leaves.iter().try_fold(false, |any, leaf| Ok(any || leaf.f_grad()?.defined()))
    }

    /// Puts gradients back that [`Self::gradients`] gave: the next backward pass adds to them in place.
    pub fn set_gradients(&self, gradients: &Gradients) {
        for (leaf, gradient) in self.memory.leaves.iter().zip(&gradients.tensors) {
            match gradient {
                Some(gradient) => set_grad(leaf, gradient),
                None => clear_grad(leaf),
            }
        }
    }

    /// Forgets all gradients: `.grad` becomes undefined, the next backward pass stores its own tensors.
    pub fn clear_gradients(&self) {
        for leaf in &self.memory.leaves {
            clear_grad(leaf);
        }
    }
}

/// Gradients in the order of the segments, each dense in its parameter's memory layout.
pub struct Gradients {
    tensors: Vec<Option<Tensor>>,
}

impl Gradients {
    pub fn tensors(&self) -> &[Option<Tensor>] {
        &self.tensors
    }

    pub fn any(&self) -> bool {
        self.tensors.iter().any(Option::is_some)
    }
}

/// Autograd keeps a gradient in its parameter's layout; what comes otherwise (a user's own, say) is copied into it.
fn conform(grad: Tensor, segment: &Segment, kind: Kind) -> Result<Tensor> {
    let strides = segment.strides();
    let dense = grad
        .stride()
        .iter()
        .zip(&strides)
        .zip(&segment.shape)
        .all(|((found, expected), &size)| size == 1 || found == expected);
    if dense && grad.kind() == kind {
        return Ok(grad);
    }
    let mut copy = Tensor::f_empty_strided(&segment.shape, &strides, (kind, grad.device()))?;
    no_grad(|| copy.f_copy_(&grad))?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> ParameterArena {
        let param = |name: &str, shape: &[i64], kind| ParamSpec { name: name.into(), shape: shape.into(), kind };
        ParameterArena::new(
            &[
                param("conv.bias", &[5], ParamKind::Bias),
                param("conv.weight", &[5, 3, 2, 2], ParamKind::ConvWeight),
                param("fc.weight", &[4, 5], ParamKind::LinearWeight),
            ],
            Dtype::Float64,
        )
        .unwrap()
    }

    fn counting(shape: &[i64]) -> Tensor {
        Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu)).reshape(shape)
    }

    #[test]
    fn weights_come_first_and_segments_are_aligned() {
        let arena = arena();
        let names: Vec<_> = arena.segments().iter().map(|segment| segment.name.as_str()).collect();
        assert_eq!(names, ["conv.weight", "fc.weight", "conv.bias"]);
        assert!(arena.segments().iter().all(|segment| segment.offset % ALIGNMENT == 0));
        assert_eq!(arena.parameter_count(), 60 + 20 + 5);
    }

    #[test]
    fn reads_back_what_was_written_in_both_layouts() {
        let mut arena = arena();
        for position in 0..3 {
            let value = counting(&arena.segments()[position].shape.clone());
            arena.write(position, &value).unwrap();
            assert_eq!(arena.read(position).unwrap(), value);
            assert_eq!(arena.leaves()[position].detach(), value);
        }
        let wrong = counting(&[2, 2]);
        assert_eq!(arena.write(0, &wrong).unwrap_err().code(), "ERR_FLATMIN_SHAPE");
    }

    #[test]
    fn the_network_reads_the_arena_it_stands_on_and_keeps_its_gradients() {
        let mut arena = arena();
        arena.write(1, &counting(&[4, 5])).unwrap();
        let leaf = arena.leaves()[1].shallow_clone();
        let pass = || (&leaf * &leaf).sum(Kind::Double).f_backward().unwrap();
        pass();
        let _ = arena.working().shallow_clone().fill_(3.0);
        assert_eq!(leaf.detach(), counting(&[4, 5]));
        arena.stand(Standing::Working).unwrap();
        assert_eq!((leaf.data_ptr(), arena.standing()), (arena.memory.working.get(64).data_ptr(), arena.working()));
        assert!(arena.is_perturbed().unwrap());
        pass();
        assert_eq!(leaf.grad(), 2.0 * counting(&[4, 5]) + 6.0);
        arena.stand(Standing::Master).unwrap();
        assert_eq!(leaf.detach(), counting(&[4, 5]));
        assert!(!arena.is_perturbed().unwrap());
    }

    #[test]
    fn gradients_are_absent_until_a_backward_pass_and_lie_as_their_parameter() {
        let mut arena = arena();
        arena.write(0, &counting(&[5, 3, 2, 2])).unwrap();
        assert!(!arena.has_gradients().unwrap());
        let loss = (&arena.leaves()[0] * &arena.leaves()[0].detach()).sum(Kind::Double);
        loss.f_backward().unwrap();
        let gradients = arena.gradients().unwrap();
        let grad = gradients.tensors()[0].as_ref().unwrap();
        assert_eq!(grad.stride(), arena.segments()[0].strides());
        assert_eq!(grad, &counting(&[5, 3, 2, 2]));
        assert!(gradients.tensors()[1].is_none());
        arena.clear_gradients();
        assert!(!arena.has_gradients().unwrap());
    }

    #[test]
    fn autograd_notices_a_raw_write() {
        let mut arena = arena();
        arena.write(1, &counting(&[4, 5])).unwrap();
        let leaf = &arena.leaves()[1];
        let loss = (leaf * leaf).sum(Kind::Double);
        arena.bump_working_version();
        assert!(loss.f_backward().is_err());
    }

    #[test]
    fn names_must_differ() {
        let twice = ParamSpec { name: "w".into(), shape: vec![1], kind: ParamKind::Bias };
        let error = ParameterArena::new(&[twice.clone(), twice], Dtype::Float32).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
    }
}
