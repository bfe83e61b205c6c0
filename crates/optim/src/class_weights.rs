//! The weights of classes in a loss.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// One weight a class. As a tensor it is made once for each device and dtype, and stays as long as any clone does: a recorded step
/// can neither bring it from the CPU nor do without it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Vec<f64>", into = "Vec<f64>")]
pub struct ClassWeights {
    values: Vec<f64>,
    tensors: Arc<Mutex<Vec<Tensor>>>,
}

impl ClassWeights {
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Where and as they are needed, `[classes]`.
    pub(crate) fn tensor(&self, device: Device, kind: Kind) -> Result<Tensor> {
        let mut tensors = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = tensors.iter().find(|tensor| tensor.device() == device && tensor.kind() == kind) {
            return Ok(found.shallow_clone());
        }
        let made = Tensor::f_from_slice(&self.values)?.f_to_kind(kind)?.f_to_device(device)?;
        tensors.push(made.shallow_clone());
        Ok(made)
    }
}

impl From<Vec<f64>> for ClassWeights {
    fn from(values: Vec<f64>) -> Self {
        Self { values, tensors: Arc::default() }
    }
}

impl From<ClassWeights> for Vec<f64> {
    fn from(weights: ClassWeights) -> Self {
        weights.values
    }
}

impl PartialEq for ClassWeights {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl fmt::Debug for ClassWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_is_made_once_and_shared_by_clones() {
        let weights = ClassWeights::from(vec![1.0, 0.5]);
        let address = |weights: &ClassWeights, kind| weights.tensor(Device::Cpu, kind).unwrap().data_ptr();
        let first = address(&weights, Kind::Float);
        assert_eq!(address(&weights.clone(), Kind::Float), first);
        assert_ne!(address(&weights, Kind::Double), first);
        assert_eq!(Vec::<f64>::try_from(weights.tensor(Device::Cpu, Kind::Double).unwrap()).unwrap(), [1.0, 0.5]);
    }
}
