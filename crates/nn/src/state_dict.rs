//! Named tensors in and out of a model, with PyTorch's names, layouts and order. A state dict is checked as a whole
//! before the first value is copied, so one that does not fit leaves the model as it was, bit for bit.

use std::collections::HashMap;

use serde::Serialize;
use tch::{Device, Kind, Tensor, no_grad};

use crate::compile::StateEntry;
use crate::error::{Error, Result};
use crate::model::Model;

/// What a state dict that was not read strictly lacked or had in excess.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadReport {
    /// Names of the model that the state dict lacks; their values stay.
    pub missing: Vec<String>,
    /// Names of the state dict that the model lacks; ignored.
    pub unexpected: Vec<String>,
}

/// Where a value of the state dict belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
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

    /// Copies values into the model and discards staged statistics. float16, bfloat16, float32 and float64 are cast to
    /// the model's dtype; a prefix `module.` is dropped. A state dict without `num_batches_tracked` (of PyTorch before
    /// 0.4.1, say) is complete. With `strict`, missing and unexpected names are errors, else they are reported.
    ///
    /// # Errors
    /// `ERR_FLATMIN_NAME`, `ERR_FLATMIN_SHAPE` or `ERR_FLATMIN_DTYPE`; the model is then untouched.
    pub fn load_state_dict(
        &mut self,
        state: impl IntoIterator<Item = (String, Tensor)>,
        strict: bool,
    ) -> Result<LoadReport> {
        let slots = self.slots();
        let known: HashMap<&str, Slot> = slots.iter().map(|(name, slot)| (name.as_str(), *slot)).collect();
        let mut values = HashMap::new();
        let mut report = LoadReport::default();
        for (given, value) in state {
            let stripped = given.strip_prefix("module.").filter(|_| !known.contains_key(given.as_str()));
            let name = stripped.unwrap_or(&given).to_owned();
            match known.get(name.as_str()) {
                None => report.unexpected.push(given),
                Some(&slot) => {
                    self.check_value(&name, slot, &value)?;
                    if values.insert(name.clone(), (slot, value)).is_some() {
                        return Err(Error::option(format!("'{name}'"), "given twice", "each name once"));
                    }
                }
            }
        }
        let required = slots.iter().filter(|(_, slot)| !matches!(slot, Slot::BatchesTracked(_)));
        report.missing = required.map(|(name, _)| name).filter(|&name| !values.contains_key(name)).cloned().collect();
        if strict {
            self.refuse_differences(&report)?;
        }
        for (slot, value) in values.into_values() {
            self.write(slot, &value)?;
        }
        self.discard_statistics();
        Ok(report)
    }

    fn slots(&self) -> Vec<(String, Slot)> {
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
        let copy = |values: &Tensor| -> Result<Tensor> {
            let mut copy = values.f_empty_like()?;
            copy.f_copy_(values)?;
            Ok(copy)
        };
        match slot {
            Slot::Parameter(position) => self.parameters().read(position),
            Slot::Mean(norm) => copy(&self.buffers().committed(norm).mean),
            Slot::Variance(norm) => copy(&self.buffers().committed(norm).variance),
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

    fn check_value(&self, name: &str, slot: Slot, value: &Tensor) -> Result<()> {
        let (fits, expected) = match slot {
            Slot::BatchesTracked(_) => (matches!(value.kind(), Kind::Int64 | Kind::Int), "int64"),
            _ => (
                matches!(value.kind(), Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double),
                "float16, bfloat16, float32 or float64",
            ),
        };
        if !fits {
            return Err(Error::dtype(format!("'{name}'"), value.kind(), expected));
        }
        let shape = match slot {
            Slot::Parameter(position) => self.parameters().segments()[position].shape.clone(),
            Slot::Mean(norm) | Slot::Variance(norm) => self.buffers().committed(norm).mean.size(),
            Slot::BatchesTracked(_) => vec![],
        };
        if value.size() != shape {
            let expected = format!("{shape:?}, as the model '{}' has it", self.spec().name);
            return Err(Error::shape(format!("'{name}'"), &value.size(), expected));
        }
        Ok(())
    }

    fn refuse_differences(&self, report: &LoadReport) -> Result<()> {
        let model = format!("the model '{}'", self.spec().name);
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
