//! What computes a model, and where: kernels of our own on the CPU, libtorch's operations on any device, or both on a GPU.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use flatmin_torch_ext::cuda::{Cuda, Place};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tch::{Device, Tensor};

use crate::error::{Error, Result};

/// Written `cpu` or `cuda:0`.
#[derive(Clone, Copy, Default)]
pub enum Engine {
    /// Fused layers and update kernels of our own.
    #[default]
    Cpu,
    /// libtorch's operations alone. On the CPU that is what tests hold the others to.
    Torch(Device),
    /// libtorch's operations, and for whole steps the kernels of the CUDA library; in tests their twin on the CPU.
    Cuda(Place),
}

static LIBRARY: OnceLock<Cuda> = OnceLock::new();

/// Lets engines on GPUs use the kernels of the CUDA library from now on.
pub fn use_cuda_library(cuda: Cuda) {
    // A second library would be the same one.
    let _ = LIBRARY.set(cuda);
}

/// The CUDA library, if it is in use.
pub fn cuda_library() -> Option<Cuda> {
    LIBRARY.get().copied()
}

impl Engine {
    /// The fastest on a device.
    pub fn on(device: Device) -> Self {
        match (device, cuda_library()) {
            (Device::Cpu, _) => Self::Cpu,
            (Device::Cuda(index), Some(cuda)) => Self::Cuda(cuda.place(index)),
            (device, _) => Self::Torch(device),
        }
    }

    /// A tensor of the host where the engine computes, without waiting where that can be. No copy if it is there already.
    ///
    /// # Errors
    /// What libtorch answers.
    pub fn bring(self, tensor: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Cuda(place) => place.bring(tensor)?,
            Self::Cpu | Self::Torch(_) => tensor.f_to_device(self.device())?,
        })
    }

    pub fn device(self) -> Device {
        match self {
            Self::Cpu => Device::Cpu,
            Self::Torch(device) => device,
            Self::Cuda(place) => place.device(),
        }
    }
}

impl PartialEq for Engine {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.device() == other.device()
    }
}

impl Eq for Engine {}

impl fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Cpu => "Cpu",
            Self::Torch(_) => "Torch",
            Self::Cuda(_) => "Cuda",
        };
        write!(formatter, "{kind}({})", device_name(self.device()))
    }
}

/// As options and events name it: `cpu`, `cuda:0`.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".into(),
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

impl FromStr for Engine {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let index = || name.strip_prefix("cuda:").and_then(|index| index.parse().ok());
        match (name, index()) {
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(index)) => Ok(Self::on(Device::Cuda(index))),
            _ => Err(Error::option("device", format!("'{name}'"), "'cpu' or 'cuda:N'")),
        }
    }
}

impl Serialize for Engine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&device_name(self.device()))
    }
}

impl<'de> Deserialize<'de> for Engine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (name, engine) in [("cpu", Engine::Cpu), ("cuda:3", Engine::Torch(Device::Cuda(3)))] {
            assert_eq!(name.parse::<Engine>().unwrap(), engine);
            assert_eq!(device_name(engine.device()), name);
        }
        for wrong in ["cuda", "cuda:", "cuda:x", "gpu", "CPU"] {
            assert_eq!(wrong.parse::<Engine>().unwrap_err().code(), "ERR_FLATMIN_OPTION");
        }
    }
}
