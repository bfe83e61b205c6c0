//! GPUs: which there are, and their memory.

use std::ffi::CStr;

use super::ffi;
use super::library::Cuda;
use crate::error::Result;

/// A GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceProperties {
    pub name: String,
    /// Bytes.
    pub memory: u64,
    /// Compute capability.
    pub capability: (i32, i32),
    /// Streaming multiprocessors.
    pub processors: i32,
    pub l2_bytes: i32,
}

/// What torch's allocator holds on a GPU, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryStatistics {
    /// In tensors.
    pub allocated: u64,
    pub allocated_peak: u64,
    /// Taken from the driver.
    pub reserved: u64,
    pub reserved_peak: u64,
    /// Allocations that first had to give cached memory back.
    pub retries: u64,
}

impl Cuda {
    /// Versions of the driver (0 if there is none) and of the runtime: 13000 is 13.0.
    pub fn versions(self) -> Result<(i32, i32)> {
        let (mut driver, mut runtime) = (0, 0);
        self.check((self.runtime.versions)(&mut driver, &mut runtime))?;
        Ok((driver, runtime))
    }

    /// # Errors
    /// If there is no driver, or one that is too old.
    pub fn device_count(self) -> Result<usize> {
        let mut count = 0;
        self.check((self.runtime.device_count)(&mut count))?;
        Ok(count as usize)
    }

    /// Without a context of CUDA there.
    ///
    /// # Errors
    /// If there is no such GPU.
    pub fn properties(self, device: usize) -> Result<DeviceProperties> {
        let mut raw = ffi::Device { name: [0; 256], memory: 0, major: 0, minor: 0, processors: 0, l2_bytes: 0 };
        self.check((self.runtime.device)(device as i32, &mut raw))?;
        // SAFETY: the library ends the name with a zero.
        let name = unsafe { CStr::from_ptr(raw.name.as_ptr()) };
        Ok(DeviceProperties {
            name: name.to_string_lossy().into_owned(),
            memory: raw.memory,
            capability: (raw.major, raw.minor),
            processors: raw.processors,
            l2_bytes: raw.l2_bytes,
        })
    }

    pub fn memory(self, device: usize) -> Result<MemoryStatistics> {
        let mut raw = ffi::Memory::default();
        self.check((self.runtime.memory)(device as i32, &mut raw))?;
        let ffi::Memory { allocated, allocated_peak, reserved, reserved_peak, retries } = raw;
        Ok(MemoryStatistics { allocated, allocated_peak, reserved, reserved_peak, retries })
    }
}
