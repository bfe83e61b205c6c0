//! What the steps of one optimizer keep on the device: tables, options, counters, the record, and what the passes found.

use flatmin_nn::{Gradients, Model, ParameterArena};
use flatmin_torch_ext::cuda::{
    Arenas, Ball, Blend, Cut, Group, Groups, Metric, Place, StepRecord, StepValues, Table, Update,
};
use tch::{Device, Kind, Tensor, no_grad};

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
        Ok(Self { memory: Memory::new(optimizer, model.parameters(), place)?, recorder })
    }
}

/// Tensors whose addresses a recorded step keeps.
pub(super) struct Memory {
    place: Place,
    cut: Cut,
    eta: f64,
    filter_scales: Tensor,
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
    /// Loss and right answers of the first pass, then of the second: float64.
    found: Tensor,
}

impl Memory {
    fn new(optimizer: &Optimizer, parameters: &ParameterArena, place: Place) -> Result<Self> {
        let layout = optimizer.ascent_layout();
        let cut = Cut::new(&place, layout.segments())?;
        let groups = vec![Group::default(); optimizer.groups().len()];
        let numbers = || place.zeros(&[groups.len() as i64], Kind::Double);
        let master = Table::of_arena(&place, &cut, parameters.master())?;
        let working = Table::new(&place, &cut)?;
        working.set_working(&place, &cut, parameters.working(), parameters.working_half())?;
        Ok(Self {
            eta: optimizer.sharpness().map_or(0.0, |sharpness| sharpness.eta),
            filter_scales: place.zeros(&[cut.filters() as i64], parameters.master().kind())?,
            groups: Groups::new(&place, &groups)?,
            coefficients: numbers()?,
            clip: numbers()?,
            decay: numbers()?,
            counts: place.zeros(&[cut.segments().len() as i64], Kind::Int64)?,
            mask_seeds: place.zeros(&[2], Kind::Int64)?,
            record: StepRecord::new(&place)?,
            first: Table::new(&place, &cut)?,
            second: Table::new(&place, &cut)?,
            master,
            working,
            found: place.zeros(&[4], Kind::Double)?,
            place,
            cut,
        })
    }

    /// Brings options, counters and mask seeds to where they stand on the host.
    pub fn begin(&mut self, optimizer: &mut Optimizer, model: &Model, mask_seeds: [u64; 2]) -> Result<()> {
        let (base, setting) = optimizer.base_and_setting(model);
        let groups: Vec<Group> = setting.groups.iter().map(|group| base.device_options(&setting, group)).collect();
        let counts: Vec<i64> = base.counts().iter().map(|&count| count as i64).collect();
        let decay: Vec<f64> = setting.groups.iter().map(|group| group.weight_decay).collect();
        self.groups.set(&groups)?;
        no_grad(|| {
            self.counts.f_copy_(&Tensor::f_from_slice(&counts)?)?;
            self.decay.f_copy_(&Tensor::f_from_slice(&decay)?)?;
            self.mask_seeds.f_copy_(&Tensor::f_from_slice(&mask_seeds.map(u64::cast_signed))?)
        })?;
        Ok(())
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
    pub fn keep(&self, slot: i64, number: &Tensor) -> Result<()> {
        no_grad(|| self.found.f_narrow(0, slot, 1)?.f_copy_(&number.f_detach()?.f_view([1])?))?;
        Ok(())
    }

    /// Waits for the device: what the passes found, and the record.
    pub fn read(&self) -> Result<(Vec<f64>, StepValues)> {
        Ok((Vec::try_from(&self.found)?, self.record.read()?))
    }
}
