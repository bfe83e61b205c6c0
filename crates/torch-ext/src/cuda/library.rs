//! Opens the CUDA library, once libtorch_cuda is there. It is made for one torch release, which its file name says: another
//! one's is never opened, since libtorch's own classes have other layouts there.

use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::ffi;
use crate::error::{Error, Result};
use crate::torch_version;

/// The open library. Stays open until the process ends.
#[derive(Clone, Copy)]
pub struct Cuda {
    pub(super) kernels: &'static ffi::Kernels,
    pub(super) runtime: &'static ffi::Runtime,
}

/// `2.13` of `2.13.0+cu130`.
fn release(version: &str) -> &str {
    let end = version.match_indices('.').nth(1).map_or(version.len(), |(place, _)| place);
    &version[..end]
}

/// The file of the library for the libtorch in this process.
pub fn file_name() -> String {
    format!("libflatmin_cuda_torch{}.so", release(torch_version()))
}

impl Cuda {
    /// Opens `folder`'s library. libtorch_cuda must have been loaded before anything asked torch about CUDA.
    ///
    /// # Errors
    /// [`Error::Library`] if there is none for this libtorch, if it does not load, or if it is of another build.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(file_name());
        if !path.is_file() {
            return Err(missing(folder));
        }
        let fail = |problem: String| Error::Library { path: path.clone(), problem };
        // SAFETY: running the initialisers of our own library is the purpose. libtorch_cuda is found by its SONAME among what
        // is loaded; where it is not, this fails.
        let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
            fail(format!("it does not load ({error}); it needs libtorch_cuda.so of torch {}", torch_version()))
        })?;
        // SAFETY: the types are those of flatmin_cuda.h, which `abi` vouches for before any of the others is called.
        let (kernels, runtime) = unsafe {
            let symbol = |error: libloading::Error| fail(format!("it is no flatmin CUDA library: {error}"));
            let abi = library.get::<extern "C" fn() -> u32>("flatmin_cuda_abi").map_err(symbol)?();
            if abi != ffi::ABI {
                return Err(fail(format!(
                    "its interface is number {abi}, expected {}: it is of another release",
                    ffi::ABI
                )));
            }
            let version =
                library.get::<extern "C" fn() -> *const c_char>("flatmin_cuda_torch_version").map_err(symbol)?();
            let version = CStr::from_ptr(version).to_string_lossy();
            if release(&version) != release(torch_version()) {
                return Err(fail(format!("it was built for torch {version}, this is torch {}", torch_version())));
            }
            let kernels =
                library.get::<extern "C" fn() -> *const ffi::Kernels>("flatmin_cuda_kernels").map_err(symbol)?();
            let runtime =
                library.get::<extern "C" fn() -> *const ffi::Runtime>("flatmin_cuda_runtime").map_err(symbol)?();
            (&*kernels, &*runtime)
        };
        std::mem::forget(library);
        Ok(Self { kernels, runtime })
    }

    /// The library's answer to a call, its message if it failed.
    pub(super) fn check(self, status: ffi::Status) -> Result<()> {
        check(status, self.runtime.last_error)
    }
}

/// The answer to a call, the message if it failed.
pub(super) fn check(status: ffi::Status, last_error: extern "C" fn() -> *const c_char) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the library keeps the message until this thread's next failure.
    let message = unsafe { CStr::from_ptr(last_error()) };
    Err(Error::Cuda(message.to_string_lossy().into_owned()))
}

/// Says which libraries there are instead.
fn missing(folder: &Path) -> Error {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut others: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("libflatmin_cuda_torch"))
        .collect();
    others.sort();
    let there = if others.is_empty() { "there is none".to_owned() } else { format!("there is {}", others.join(", ")) };
    let problem = format!("{there}, and this is torch {}; build it with `npm run build:cuda`", torch_version());
    Error::Library { path: PathBuf::from(folder).join(file_name()), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_major_and_minor() {
        assert_eq!(["2.13.0", "2.13.0+cu130", "2.9"].map(release), ["2.13", "2.13", "2.9"]);
        assert!(file_name().starts_with("libflatmin_cuda_torch2."));
    }

    #[test]
    fn a_library_for_another_torch_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("libflatmin_cuda_torch1.0.so"), "not even a library").unwrap();
        let Err(error) = Cuda::open(folder.path()) else { panic!("opened a text file") };
        assert_eq!(error.code(), "ERR_FLATMIN_DEVICE");
        assert!(error.to_string().contains("there is libflatmin_cuda_torch1.0.so"), "{error}");
    }

    #[test]
    fn what_is_no_library_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(file_name()), "not a library").unwrap();
        let Err(error) = Cuda::open(folder.path()) else { panic!("opened a text file") };
        assert!(error.to_string().contains("does not load"), "{error}");
    }
}
