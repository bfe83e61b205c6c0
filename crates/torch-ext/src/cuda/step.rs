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

impl Group {
    /// Its numbers in the order of the fields, as kernels read them.
    pub fn numbers(&self) -> [f64; Groups::NUMBERS] {
        let &Self { rho, lr, momentum, dampening, weight_decay, beta1, beta2, eps } = self;
        [rho, lr, momentum, dampening, weight_decay, beta1, beta2, eps]
    }
}

/// All groups' options on the device.
pub struct Groups {
    /// Float64, 1-D.
    values: Tensor,
    len: usize,
}

impl Groups {
    /// Numbers of one group.
    pub const NUMBERS: usize = 8;

    pub fn new(place: &Place, groups: &[Group]) -> Result<Self> {
        let numbers: Vec<f64> = groups.iter().flat_map(Group::numbers).collect();
        Ok(Self { values: place.bring(&Tensor::f_from_slice(&numbers)?)?, len: groups.len() })
    }

    /// Those whose numbers lie in this dense float64 tensor, or will.
    pub fn of(values: Tensor) -> Self {
        let len = values.numel() / Self::NUMBERS;
        Self { values, len }
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

/// What a step found out about itself, on the device, and notes beside it. Belongs to one optimizer.
pub struct StepRecord {
    /// Float64: the record, then the notes.
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
        Self::with_notes(place, 0)
    }

    /// With room for some more numbers, which are read along.
    pub fn with_notes(place: &Place, notes: i64) -> Result<Self> {
        let values = place.zeros(&[NUMBERS + notes], Kind::Double)?;
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

    /// One of the notes, float64 `[1]`.
    pub fn note(&self, number: i64) -> Result<Tensor> {
        Ok(self.values.f_narrow(0, NUMBERS + number, 1)?)
    }

    /// Waits for the device and reads.
    pub fn read(&self) -> Result<StepValues> {
        Ok(self.read_with_notes()?.0)
    }

    /// Waits for the device and reads, the notes as well.
    pub fn read_with_notes(&self) -> Result<(StepValues, Vec<f64>)> {
        let mut values: Vec<f64> = Vec::try_from(&self.values.f_to_device(Device::Cpu)?)?;
        let notes = values.split_off(NUMBERS as usize);
        Ok((Self::parse(&values), notes))
    }

    fn parse(values: &[f64]) -> StepValues {
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
        ] = values
        else {
            unreachable!("a record has {NUMBERS} numbers")
        };
        StepValues {
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
        }
    }

    pub(super) fn raw(&self) -> *mut f64 {
        self.values.data_ptr().cast()
    }
}
