//! What the steps of one optimizer keep on the device: tables, options, counters, the record, and what the passes found.

use flatmin_nn::{Gradients, Model, ParameterArena};
use flatmin_torch_ext::cuda::{
    Arenas, Ball, Blend, Cut, Groups, Metric, Place, StepRecord, StepValues, Table, Update, Words,
};
use tch::{Device, Kind, Tensor, no_grad};

use super::addresses;
use super::recording::Recorder;
use crate::config::{Decay, PNorm, SharpnessConfig};
use crate::error::Result;
use crate::optimizer::Optimizer;

/// The steps of one optimizer on one device.
pub(crate) struct DeviceStep {
    pub(super) memory: Memory,
    /// On a GPU.
    pub(super) recorder: Option<Recorder>,
}

impl DeviceStep {
    pub fn new(optimizer: &Optimizer, model: &Model, place: Place) -> Result<Self> {
        let recorder = match (place.cuda(), place.device()) {
            (Some(cuda), Device::Cuda(index)) => Some(Recorder::new(cuda, index)?),
            _ => None,
        };
        Ok(Self { memory: Memory::new(optimizer, model, place)?, recorder })
    }
}

/// Loss and right answers of the first pass, then of the second.
const NOTES: i64 = 4;

/// Tensors whose addresses a recorded step keeps.
pub(super) struct Memory {
    /// Of the model's arenas.
    pub addresses: [usize; 5],
    place: Place,
    cut: Cut,
    eta: f64,
    filter_scales: Tensor,
    /// All that the host tells a step; `groups`, `decay`, `counts` and `mask_seeds` are views of it.
    told: Words,
    pub groups: Groups,
    /// Of the ascent, float64, one a group.
    pub coefficients: Tensor,
    /// What clipping multiplies by, float64, one a group.
    pub clip: Tensor,
    /// Weight decay in the loss, float64, one a group.
    decay: Tensor,
    /// Steps of each segment, int64.
    pub counts: Tensor,
    /// Of the first pass, then of the second: int64.
    mask_seeds: Tensor,
    record: StepRecord,
    pub first: Table,
    pub second: Table,
    pub master: Table,
    pub working: Table,
}

impl Memory {
    fn new(optimizer: &Optimizer, model: &Model, place: Place) -> Result<Self> {
        let (layout, parameters) = (optimizer.ascent_layout(), model.parameters());
        let cut = Cut::new(&place, layout.segments())?;
        let groups = optimizer.groups().len();
        let numbers = || place.zeros(&[groups as i64], Kind::Double);
        // In the order in which `begin` tells them.
        let options = Groups::NUMBERS * groups;
        let counts = options + groups;
        let seeds = counts + cut.segments().len();
        let told = Words::new(&place, seeds + 2)?;
        let master = Table::of_arena(&place, &cut, parameters.master())?;
        let working = Table::new(&place, &cut)?;
        working.set_working(&place, &cut, parameters.working(), parameters.working_half())?;
        Ok(Self {
            addresses: addresses(model),
            eta: optimizer.sharpness().map_or(0.0, |sharpness| sharpness.eta),
            filter_scales: place.zeros(&[cut.filters() as i64], parameters.master().kind())?,
            groups: Groups::of(told.floats(0..options)?),
            decay: told.floats(options..counts)?,
            counts: told.integers(counts..seeds)?,
            mask_seeds: told.integers(seeds..seeds + 2)?,
            told,
            coefficients: numbers()?,
            clip: numbers()?,
            record: StepRecord::with_notes(&place, NOTES)?,
            first: Table::new(&place, &cut)?,
            second: Table::new(&place, &cut)?,
            master,
            working,
            place,
            cut,
        })
    }

    /// Queues a copy of options, counters and mask seeds as they stand on the host.
    pub fn begin(&mut self, optimizer: &mut Optimizer, model: &Model, mask_seeds: [u64; 2]) -> Result<()> {
        let (base, setting) = optimizer.base_and_setting(model);
        let groups = setting.groups.iter().flat_map(|group| base.device_options(&setting, group).numbers());
        let decay = setting.groups.iter().map(|group| group.weight_decay);
        let words: Vec<u64> =
            groups.chain(decay).map(f64::to_bits).chain(base.counts().iter().copied()).chain(mask_seeds).collect();
        Ok(self.told.send(&words)?)
    }

    /// Where a pass finds its mask seed: 0, or 1 for the second.
    pub fn mask_seed(&self, pass: i64) -> Result<Tensor> {
        Ok(self.mask_seeds.f_narrow(0, pass, 1)?)
    }

    pub fn update<'a>(&'a self, model: &'a Model) -> Update<'a> {
        let parameters = model.parameters();
        let (master, working, working_half) = (parameters.master(), parameters.working(), parameters.working_half());
        let arenas = Arenas { master, working, working_half };
        Update { place: &self.place, cut: &self.cut, arenas, record: &self.record }
    }

    pub fn metric(&self) -> Metric<'_> {
        Metric { eta: self.eta, filter_scales: &self.filter_scales }
    }

    pub fn ball(&self, sharpness: &SharpnessConfig) -> Ball<'_> {
        let p = match sharpness.p {
            PNorm::Finite(p) => p,
            PNorm::Infinite(_) => f64::INFINITY,
        };
        Ball { groups: &self.groups, p, guard: sharpness.guard, coefficients: &self.coefficients }
    }

    /// The gradient of the objective at the weights: of the loss, and of the penalty if weight decay is one.
    pub fn objective<'a>(&'a self, optimizer: &Optimizer, gradient: &'a Table, weights: &'a Table) -> Blend<'a> {
        let blend = Blend::of(gradient, 1.0, None);
        match optimizer.config().decay {
            Decay::Loss => blend.plus(1.0, Some(&self.decay), weights),
            _ => blend,
        }
    }

    /// Fills the table of a pass.
    pub fn set(&self, table: &Table, parameters: &ParameterArena, gradients: &Gradients) -> Result<()> {
        Ok(table.set(&self.place, &self.cut, parameters.master().kind(), gradients.tensors())?)
    }

    /// Keeps a number of a pass until the step's end.
    pub fn note(&self, slot: i64, number: &Tensor) -> Result<()> {
        let mut note = self.record.note(slot)?;
        no_grad(|| note.f_copy_(&number.f_detach()?.f_view([1])?))?;
        Ok(())
    }

    /// Waits for the device: the record, and what the passes found.
    pub fn read(&self) -> Result<(StepValues, Vec<f64>)> {
        Ok(self.record.read_with_notes()?)
    }
}
