//! What the process occupies: of the CPU's memory as Linux tells it in `/proc/self/status`, of a GPU's as torch's allocator does.

use flatmin_nn::{Engine, cuda_library};
use tch::Device;

/// The most that tensors have taken of the GPU's memory since the process began, in bytes. None on a CPU, and without the
/// CUDA library.
pub fn device_bytes(engine: Engine) -> Option<u64> {
    let Device::Cuda(index) = engine.device() else { return None };
    Some(cuda_library()?.memory(index).ok()?.allocated_peak)
}

/// Resident memory now, in bytes. None where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    status_field("VmRSS:")
}

/// The highest resident memory since the process began, in bytes.
pub fn peak_resident_bytes() -> Option<u64> {
    status_field("VmHWM:")
}

fn status_field(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_at_least_what_is_held() {
        let held = vec![1u8; 32 << 20];
        let (now, peak) = (resident_bytes().unwrap(), peak_resident_bytes().unwrap());
        assert!(now >= held.len() as u64 && peak >= now, "{now} {peak}");
    }
}
