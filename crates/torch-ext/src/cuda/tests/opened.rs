//! The CUDA library itself, beside the real libtorch_cuda: `npm run test:cuda` builds and brings both and says where they lie.

use std::path::PathBuf;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::*;

fn folder(variable: &str) -> PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set")).into()
}

/// With a GPU it works; without a driver every way in says so, and nothing breaks.
#[test]
#[ignore = "needs the CUDA libtorch and the CUDA library: npm run test:cuda"]
fn the_library_opens_beside_libtorch_and_says_what_is_there() {
    let libtorch = folder("FLATMIN_TEST_LIBTORCH_CUDA");
    for name in ["libc10_cuda.so", "libtorch_cuda.so"] {
        // SAFETY: as the loader of the package does.
        std::mem::forget(unsafe { Library::open(Some(libtorch.join(name)), RTLD_NOW | RTLD_LOCAL) }.unwrap());
    }
    let cuda = Cuda::open(&folder("FLATMIN_TEST_CUDA_LIBRARY")).unwrap();
    let (driver, runtime) = cuda.versions().unwrap();
    assert!(runtime >= 13_000, "runtime {runtime}");
    if driver > 0 {
        let count = cuda.device_count().unwrap();
        assert!((0..count).all(|device| cuda.properties(device).unwrap().memory > 0));
        return;
    }
    let failures = [
        cuda.device_count().unwrap_err(),
        cuda.properties(0).unwrap_err(),
        cuda.memory(0).unwrap_err(),
        stream::Stream::from_pool(cuda, 0).err().unwrap(),
        OwnStream::new(cuda, 0).err().unwrap(),
        Graph::new(cuda).err().unwrap(),
        stream::pinned_like(cuda, &numbers(3, 1)).unwrap_err(),
    ];
    for error in failures {
        assert_eq!(error.code(), "ERR_FLATMIN_DEVICE");
        assert!(error.to_string().contains("no NVIDIA driver"), "{error}");
    }
    // The library's own kernels answer, too.
    let kernels = cuda.place(0);
    assert!(Cut::new(&kernels, &[]).is_err());
}
