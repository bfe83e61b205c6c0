//! The tiny addon that opens libtorch before the real one, because Node's `process.dlopen` refuses plain shared libraries.
//! The real addon then finds `libtorch_cpu.so` and `libc10.so` by their SONAMEs among what is already loaded.

use std::ffi::{CStr, CString};

use napi_derive::napi;

/// Opens shared libraries in the given order and keeps them open for the life of the process.
/// RTLD_LOCAL is enough, since glibc matches by SONAME, and keeps libtorch's symbols out of other addons' sight.
#[napi]
pub fn open(paths: Vec<String>) -> napi::Result<()> {
    paths.iter().try_for_each(|path| open_one(path))
}

fn open_one(path: &str) -> napi::Result<()> {
    let name = CString::new(path).map_err(|_| napi::Error::from_reason(format!("{path:?} holds a NUL byte")))?;
    // SAFETY: `name` is a valid C string; running the library's initialisers is the purpose.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(napi::Error::from_reason(last_error(path)));
    }
    Ok(())
}

fn last_error(path: &str) -> String {
    // SAFETY: dlerror gives a valid C string, or null when there was no error, until this thread's next dl call.
    let message = unsafe { libc::dlerror() };
    if message.is_null() {
        return format!("{path}: dlopen failed without a message");
    }
    // SAFETY: not null, as just checked.
    unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
}
