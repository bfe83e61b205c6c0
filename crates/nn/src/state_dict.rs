//! Named tensors in and out of a model, with PyTorch's names, layouts and order. A state dict is checked as a whole
//! before the first value is copied, so one that does not fit leaves the model as it was, bit for bit.

use std::collections::HashMap;

use serde::Serialize;
use tch::{Device, Kind, Tensor, no_grad};

use crate::compile::StateEntry;
use crate::error::{Error, Result};
use crate::load_options::{LoadOptions, sample};
use crate::model::Model;

/// What a state dict that was not read strictly lacked, had in excess or had in another shape.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadReport {
    /// Names of the model that the state dict lacks; their values stay.
    pub missing: Vec<String>,
    /// Names of the state dict that the model lacks; ignored.
    pub unexpected: Vec<String>,
    /// Names whose shapes differ; the model's values stay.
    pub mismatched: Vec<Mismatch>,
}

/// A shape in the state dict and the model's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    pub name: String,
    pub found: Vec<i64>,
    pub expected: Vec<i64>,
}

/// Where a value of the state dict belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Position in the parameter arena.
    Parameter(usize),
    Mean(usize),
    Variance(usize),
    BatchesTracked(usize),
}

impl Model {
    /// Copies of all parameters (at w, never perturbed) and committed running statistics in PyTorch's order and layout.
    /// `num_batches_tracked` is int64 and has no dimension.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn state_dict(&self) -> Result<Vec<(String, Tensor)>> {
        self.slots().into_iter().map(|(name, slot)| Ok((name, self.read(slot)?))).collect()
    }

    /// As [`Self::load_state_dict_with`], with all other options at their defaults.
    ///
    /// # Errors
    /// As there.
    pub fn load_state_dict(
        &mut self,
        state: impl IntoIterator<Item = (String, Tensor)>,
        strict: bool,
    ) -> Result<LoadReport> {
        self.load_state_dict_with(state, &LoadOptions { strict, ..LoadOptions::default() })
    }

    /// Copies values into the model and discards staged statistics. float16, bfloat16, float32 and float64 are cast to
    /// the model's dtype. A state dict without `num_batches_tracked` (of PyTorch before 0.4.1, say) is complete.
    ///
    /// # Errors
    /// `ERR_FLATMIN_NAME`, `ERR_FLATMIN_SHAPE` or `ERR_FLATMIN_DTYPE`; also if not a single name is the model's. The
    /// model is then untouched.
    pub fn load_state_dict_with(
        &mut self,
        state: impl IntoIterator<Item = (String, Tensor)>,
        options: &LoadOptions,
    ) -> Result<LoadReport> {
        let slots = self.slots();
        let known: HashMap<&str, Slot> = slots.iter().map(|(name, slot)| (name.as_str(), *slot)).collect();
        let state: Vec<(String, Tensor)> = state.into_iter().collect();
        let given: Vec<&str> = state.iter().map(|(name, _)| name.as_str()).collect();
        let own: Vec<&str> = slots.iter().map(|(name, _)| name.as_str()).collect();
        let names = options.names(&given, &own)?;
        let mut values = HashMap::new();
        let mut report = LoadReport::default();
        for ((given, value), name) in state.iter().zip(names) {
            let Some(name) = name else { continue };
            let Some(&slot) = known.get(name.as_str()) else {
                report.unexpected.push(given.clone());
                continue;
            };
            check_dtype(&name, slot, value)?;
            let expected = self.shape(slot);
            if value.size() != expected {
                report.mismatched.push(Mismatch { name, found: value.size(), expected });
            } else if values.insert(name.clone(), (slot, value)).is_some() {
                return Err(Error::option(format!("'{name}'"), "given twice", "each name once"));
            }
        }
        let absent =
            |name: &str| !values.contains_key(name) && report.mismatched.iter().all(|mismatch| mismatch.name != name);
        let required = slots.iter().filter(|(_, slot)| !matches!(slot, Slot::BatchesTracked(_)));
        report.missing = required.map(|(name, _)| name).filter(|name| absent(name)).cloned().collect();
        if options.strict {
            self.refuse_differences(&report)?;
        }
        if values.is_empty() && report.mismatched.is_empty() && !slots.is_empty() {
            let found = format!("{} in the weights", sample(&given));
            let expected = format!("names such as {}; prefix and map rename", sample(&own));
            return Err(Error::option("no name fits:", found, expected));
        }
        for (slot, value) in values.into_values() {
            self.write(slot, value)?;
        }
        self.discard_statistics();
        Ok(report)
    }

    pub(crate) fn slots(&self) -> Vec<(String, Slot)> {
        let mut slots = Vec::new();
        for &entry in self.entries() {
            match entry {
                StateEntry::Parameter(id) => {
                    let position = self.positions()[id.0];
                    slots.push((self.parameters().segments()[position].name.clone(), Slot::Parameter(position)));
                }
                StateEntry::Statistics(norm) => {
                    let layer = self.buffers().name(norm);
                    slots.push((format!("{layer}.running_mean"), Slot::Mean(norm)));
                    slots.push((format!("{layer}.running_var"), Slot::Variance(norm)));
                    slots.push((format!("{layer}.num_batches_tracked"), Slot::BatchesTracked(norm)));
                }
            }
        }
        slots
    }

    fn read(&self, slot: Slot) -> Result<Tensor> {
        match slot {
            Slot::Parameter(position) => self.parameters().read(position),
            Slot::Mean(norm) => copy_of(&self.buffers().committed(norm).mean),
            Slot::Variance(norm) => copy_of(&self.buffers().committed(norm).variance),
            Slot::BatchesTracked(norm) => {
                Ok(Tensor::f_full([], self.buffers().batches_tracked(norm), (Kind::Int64, Device::Cpu))?)
            }
        }
    }

    fn write(&mut self, slot: Slot, value: &Tensor) -> Result<()> {
        let copy = |target: &Tensor| no_grad(|| target.shallow_clone().f_copy_(value)).map_err(Error::from);
        match slot {
            Slot::Parameter(position) => self.parameters_mut().write(position, value),
            Slot::Mean(norm) => copy(&self.buffers().committed(norm).mean),
            Slot::Variance(norm) => copy(&self.buffers().committed(norm).variance),
            Slot::BatchesTracked(norm) => {
                let count = value.f_int64_value(&[])?;
                self.buffers_mut().set_batches_tracked(norm, count);
                Ok(())
            }
        }
    }

    fn shape(&self, slot: Slot) -> Vec<i64> {
        match slot {
            Slot::Parameter(position) => self.parameters().segments()[position].shape.clone(),
            Slot::Mean(norm) | Slot::Variance(norm) => self.buffers().committed(norm).mean.size(),
            Slot::BatchesTracked(_) => vec![],
        }
    }

    fn refuse_differences(&self, report: &LoadReport) -> Result<()> {
        let model = format!("the model '{}'", self.spec().name);
        if let Some(Mismatch { name, found, expected }) = report.mismatched.first() {
            let expected = format!("{expected:?}, as {model} has it; with strict off the model keeps its own values");
            return Err(Error::shape(format!("'{name}'"), found, expected));
        }
        if let Some(name) = report.missing.first() {
            let count = report.missing.len();
            let expected =
                format!("{model} has it ({count} missing in all); load with strict off to keep its own values");
            return Err(Error::Name { what: "entry of the state dict".into(), found: name.clone(), expected });
        }
        if let Some(name) = report.unexpected.first() {
            let count = report.unexpected.len();
            let expected =
                format!("the state dict has it ({count} unexpected in all); load with strict off to pass it over");
            return Err(Error::Name { what: format!("parameter of {model}"), found: name.clone(), expected });
        }
        Ok(())
    }
}

/// On the CPU.
pub(crate) fn copy_of(values: &Tensor) -> Result<Tensor> {
    let mut copy = Tensor::f_empty(values.size(), (values.kind(), Device::Cpu))?;
    copy.f_copy_(values)?;
    Ok(copy)
}

fn check_dtype(name: &str, slot: Slot, value: &Tensor) -> Result<()> {
    let (fits, expected) = match slot {
        Slot::BatchesTracked(_) => (matches!(value.kind(), Kind::Int64 | Kind::Int), "int64"),
        _ => (
            matches!(value.kind(), Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double),
            "float16, bfloat16, float32 or float64",
        ),
    };
    if fits { Ok(()) } else { Err(Error::dtype(format!("'{name}'"), value.kind(), expected)) }
}
