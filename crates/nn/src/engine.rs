//! What computes a model, and where: kernels of our own on the CPU, or libtorch's operations on any device.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tch::Device;

use crate::error::Error;

/// Written `cpu` or `cuda:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// Fused layers and update kernels of our own.
    #[default]
    Cpu,
    /// libtorch's operations alone. On the CPU that is what tests hold the others to.
    Torch(Device),
}

impl Engine {
    /// The fastest on a device.
    pub fn on(device: Device) -> Self {
        if device == Device::Cpu { Self::Cpu } else { Self::Torch(device) }
    }

    pub fn device(self) -> Device {
        match self {
            Self::Cpu => Device::Cpu,
            Self::Torch(device) => device,
        }
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

    fn from_str(name: &str) -> Result<Self, Error> {
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
