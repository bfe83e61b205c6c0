//! The kernels' twin against the kernels of `crate::cpu` and against libtorch: the same source runs on the GPU.

mod combinations;
mod draw;
mod input;
mod layers;
mod opened;
mod rounding;
mod step;
mod update;

use tch::{Device, Kind, Tensor};

use super::*;
use crate::cpu::{self, Geometry, HalfSlab, Real, SegmentLayout, Slab, Working};

/// Uniform in [-1, 1).
pub fn numbers(len: usize, salt: u64) -> Tensor {
    let values: Vec<f64> = (0..len as u64).map(|index| 2.0 * cpu::uniform(salt, index) - 1.0).collect();
    Tensor::from_slice(&values)
}

pub fn group() -> Group {
    Group { rho: 0.5, lr: 0.1, momentum: 0.9, dampening: 0.25, weight_decay: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8 }
}

/// A small model's segments: every geometry, lengths that no vector divides, a segment that is not perturbed, one without a
/// gradient, two parameter groups.
pub struct Case {
    pub place: Place,
    pub segments: Vec<SegmentLayout>,
    pub layout: cpu::Layout,
    pub cut: Cut,
    pub kind: Kind,
    pub master: Tensor,
    pub working: Tensor,
    pub half: Option<Tensor>,
    pub record: StepRecord,
    pub groups: Groups,
}

const LENGTHS: [(usize, Geometry); 6] = [
    (9_003, Geometry::Element),
    (27 * 161, Geometry::Filter { len: 27 }),
    (4_608 * 3, Geometry::Filter { len: 4_608 }),
    (70, Geometry::Plain),
    (5_000, Geometry::Element),
    (33, Geometry::Element),
];
pub const WITHOUT_GRADIENT: usize = 4;

impl Case {
    /// `half`: matrices and filters are read in bfloat16.
    pub fn new(kind: Kind, half: bool) -> Self {
        let mut offset = 0;
        let mut segments = Vec::new();
        for (index, (len, geometry)) in LENGTHS.into_iter().enumerate() {
            let (group, perturbed) = (usize::from(index == 2), index != 5);
            segments.push(SegmentLayout { offset, len, geometry, group, perturbed, half: half && len > 100 });
            offset = (offset + len).next_multiple_of(32);
        }
        let place = Place::twin();
        let master = numbers(offset, 1).to_kind(kind);
        Self {
            place,
            layout: cpu::Layout::new(segments.clone()),
            cut: Cut::new(&place, &segments).unwrap(),
            kind,
            working: master.copy(),
            half: half.then(|| master.to_kind(Kind::BFloat16)),
            master,
            record: StepRecord::new(&place).unwrap(),
            groups: Groups::new(&place, &[group(), Group { rho: 0.2, lr: 0.03, ..group() }]).unwrap(),
            segments,
        }
    }

    /// Gradients as a backward pass leaves them: bfloat16 where the network computes in it.
    pub fn gradients(&self, salt: u64) -> Vec<Option<Tensor>> {
        let gradient = |(index, segment): (usize, &SegmentLayout)| {
            let kind = if segment.half { Kind::BFloat16 } else { self.kind };
            (index != WITHOUT_GRADIENT).then(|| numbers(segment.len, salt + index as u64).to_kind(kind))
        };
        self.segments.iter().enumerate().map(gradient).collect()
    }

    pub fn table(&self, gradients: &[Option<Tensor>]) -> Table {
        let table = Table::new(&self.place, &self.cut).unwrap();
        table.set(&self.place, &self.cut, self.kind, gradients).unwrap();
        table
    }

    pub fn update(&self) -> Update<'_> {
        let arenas = Arenas { master: &self.master, working: &self.working, working_half: self.half.as_ref() };
        Update { place: &self.place, cut: &self.cut, arenas, record: &self.record }
    }

    /// The weights that the CPU's kernels work on: copies of this case's.
    pub fn reference(&self) -> Reference {
        Reference {
            master: self.master.copy(),
            working: self.working.copy(),
            half: self.half.as_ref().map(Tensor::copy),
        }
    }

    pub fn filter_scales(&self) -> Tensor {
        Tensor::zeros([self.cut.filters() as i64], (self.kind, Device::Cpu))
    }

    pub fn zeros(&self) -> Tensor {
        self.master.zeros_like()
    }

    pub fn counts(&self) -> Tensor {
        Tensor::zeros([self.segments.len() as i64], (Kind::Int64, Device::Cpu))
    }

    /// All weights, as the reference has them, bit for bit.
    pub fn assert_same(&self, reference: &Reference) {
        assert_eq!(self.master, reference.master, "master");
        assert_eq!(self.working, reference.working, "working");
        assert_eq!(self.half, reference.half, "bfloat16 weights");
    }
}

pub struct Reference {
    pub master: Tensor,
    pub working: Tensor,
    pub half: Option<Tensor>,
}

impl Reference {
    pub fn working<T: Real>(&self) -> Working<T> {
        Working::new(Slab::of(&self.working), self.half())
    }

    pub fn half(&self) -> Option<HalfSlab> {
        self.half.as_ref().and_then(HalfSlab::of)
    }

    /// Where a descent leaves working: on the CPU the network reads the master then.
    pub fn return_to_w(&self, case: &Case) {
        for segment in case.segments.iter().filter(|segment| !segment.half) {
            let part = |arena: &Tensor| arena.narrow(0, segment.offset as i64, segment.len as i64);
            part(&self.working).copy_(&part(&self.master));
        }
    }
}

pub fn doubles(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).reshape([-1])).unwrap()
}

pub fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.size(), expected.size());
    for (index, (found, expected)) in doubles(found).iter().zip(doubles(expected)).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= tolerance * (1.0 + expected.abs()), "at {index}: {found}, expected {expected}");
    }
}

/// Master dtype, and whether there are bfloat16 weights.
pub const FORMS: [(Kind, bool); 3] = [(Kind::Double, false), (Kind::Float, false), (Kind::Float, true)];

/// Calls a generic function with the element type of a case.
macro_rules! with_real {
    ($case:expr, $function:ident ( $($argument:expr),* $(,)? )) => {
        match $case.kind {
            tch::Kind::Double => $function::<f64>($($argument),*),
            _ => $function::<f32>($($argument),*),
        }
    };
}
pub(crate) use with_real;
