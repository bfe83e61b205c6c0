//! What a step reads and writes in device memory, so that a captured one can be given new options and tell what it found:
//! the options of the parameter groups, and the record.

use tch::{Device, Kind, Tensor};

use super::place::Place;
use crate::error::Result;

/// The options of one parameter group, as SGD and Adam of `crate::cpu` have them, and the radius of the ball.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Group {
    pub rho: f64,
    pub lr: f64,
    pub momentum: f64,
    pub dampening: f64,
    pub weight_decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
}

/// All groups' options on the device, float64 `[groups, 8]` in the order of [`Group`]'s fields.
pub struct Groups {
    values: Tensor,
    len: usize,
}

impl Groups {
    pub fn new(place: &Place, groups: &[Group]) -> Result<Self> {
        let values = Self::host(groups)?.f_to_device(place.device())?;
        Ok(Self { values, len: groups.len() })
    }

    /// The values as they lie on the device, on the CPU.
    fn host(groups: &[Group]) -> Result<Tensor> {
        let row = |group: &Group| {
            let &Group { rho, lr, momentum, dampening, weight_decay, beta1, beta2, eps } = group;
            [rho, lr, momentum, dampening, weight_decay, beta1, beta2, eps]
        };
        let rows: Vec<f64> = groups.iter().flat_map(row).collect();
        Ok(Tensor::f_from_slice(&rows)?.f_view([groups.len() as i64, 8])?)
    }

    /// New values at the same place: a captured step reads them at its next replay.
    pub fn set(&mut self, groups: &[Group]) -> Result<()> {
        self.values.f_copy_(&Self::host(groups)?)?;
        Ok(())
    }

    /// Groups.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn raw(&self) -> *const f64 {
        self.values.data_ptr().cast()
    }
}

/// `flatmin_step`: 20 numbers.
const NUMBERS: i64 = 20;
/// Places of the numbers that start as 1.
const PROCEED: i64 = 0;
const HALF_FACTOR: i64 = 7;
const LARGEST: i64 = 5;

/// What a step found out about itself, on the device. Belongs to one optimizer.
pub struct StepRecord {
    values: Tensor,
}

/// A record's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepValues {
    /// Whether every gradient of the step was finite; else it was skipped.
    pub proceeds: bool,
    /// norm2(g) of the last norm pass.
    pub plain: f64,
    /// norm2(T_w g) of the last norm pass but a second one.
    pub scaled: f64,
    /// norm2(g) of the step's first pass.
    pub first_plain: f64,
    /// norm2(T_w g) of the step's first pass.
    pub first_scaled: f64,
    /// max |T_w g| of the last dual norm, and that norm in units of it.
    pub largest: f64,
    pub relative: f64,
    /// What eps is multiplied by in bfloat16 segments, norm2(d) / norm2(eps) and the cosine of d and eps for the displacement d
    /// that the network sees.
    pub half_factor: f64,
    pub ratio: f64,
    pub cosine: f64,
    /// Steps since the record was made.
    pub taken: u64,
    pub skipped: u64,
}

impl StepRecord {
    pub fn new(place: &Place) -> Result<Self> {
        let values = place.zeros(&[NUMBERS], Kind::Double)?;
        for start in [PROCEED, HALF_FACTOR] {
            let _ = values.f_narrow(0, start, 1)?.f_fill_(1.0)?;
        }
        Ok(Self { values })
    }

    /// What a displacement of [`super::Shape::Power`] takes for max |T_w g|, where no dual norm has put it there.
    pub fn set_largest(&self, largest: f64) -> Result<()> {
        let _ = self.values.f_narrow(0, LARGEST, 1)?.f_fill_(largest)?;
        Ok(())
    }

    /// Waits for the device and reads.
    pub fn read(&self) -> Result<StepValues> {
        Self::parse(&self.values.f_to_device(Device::Cpu)?)
    }

    fn parse(values: &Tensor) -> Result<StepValues> {
        let values: Vec<f64> = Vec::try_from(values)?;
        let &[
            proceed,
            plain,
            scaled,
            first_plain,
            first_scaled,
            largest,
            relative,
            half_factor,
            ratio,
            cosine,
            taken,
            skipped,
            ..,
        ] = values.as_slice()
        else {
            unreachable!("a record has {NUMBERS} numbers")
        };
        Ok(StepValues {
            proceeds: proceed != 0.0,
            plain,
            scaled,
            first_plain,
            first_scaled,
            largest,
            relative,
            half_factor,
            ratio,
            cosine,
            taken: taken as u64,
            skipped: skipped as u64,
        })
    }

    pub(super) fn raw(&self) -> *mut f64 {
        self.values.data_ptr().cast()
    }
}
