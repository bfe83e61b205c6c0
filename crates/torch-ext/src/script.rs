//! TorchScript modules as functions of tensors that the caller owns: parameters and buffers can be exchanged for others,
//! such as views of an arena. Computation is by the interpreter, so second derivatives exist.

use std::ffi::{CStr, CString, c_void};
use std::path::Path;

use tch::{Device, Tensor};

use crate::error::{Error, Result, check};
use crate::ffi;

/// A loaded module. Its parameters and buffers have places, counted in the order of PyTorch's state dict.
pub struct ScriptModule(*mut c_void);

// SAFETY: the module behind the pointer is used through &self by one thread at a time (it is Send, not Sync).
unsafe impl Send for ScriptModule {}

/// A parameter or a buffer of a module.
#[derive(Debug)]
pub struct ScriptTensor {
    /// Dotted, as in the state dict.
    pub name: String,
    pub is_parameter: bool,
    pub value: Tensor,
}

impl ScriptModule {
    /// # Errors
    /// If the file is no TorchScript module.
    pub fn load(path: &Path) -> Result<Self> {
        let path = c_path(path)?;
        let mut raw = std::ptr::null_mut();
        check(unsafe { ffi::flatmin_script_load(path.as_ptr(), &mut raw) })?;
        Ok(Self(raw))
    }

    /// The same code over copies of all tensors on a device, the constants of the code included. What the code makes on a device
    /// that it names is still made there.
    ///
    /// # Errors
    /// If the device is not there or has no room.
    pub fn copy(&self, device: Device) -> Result<Self> {
        let gpu = if let Device::Cuda(index) = device { index as i32 } else { -1 };
        let mut raw = std::ptr::null_mut();
        check(unsafe { ffi::flatmin_script_copy(self.0, gpu, &mut raw) })?;
        Ok(Self(raw))
    }

    /// The module as a file would hold it, uint8. The file names the devices of its tensors.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn bytes(&self) -> Result<Tensor> {
        let mut out = std::ptr::null_mut();
        // SAFETY: on success `out` is a new tensor that the returned value owns.
        unsafe {
            check(ffi::flatmin_script_bytes(self.0, &mut out))?;
            Ok(Tensor::from_ptr(out))
        }
    }

    /// Parameters and buffers by place.
    ///
    /// # Errors
    /// If libtorch cannot hand one out.
    pub fn tensors(&self) -> Result<Vec<ScriptTensor>> {
        (0..unsafe { ffi::flatmin_script_count(self.0) }).map(|place| self.tensor(place)).collect()
    }

    fn tensor(&self, place: i64) -> Result<ScriptTensor> {
        let mut out = std::ptr::null_mut();
        // SAFETY: the place exists; the name lives as long as the module; `out` is a new tensor on success.
        unsafe {
            check(ffi::flatmin_script_get(self.0, place, &mut out))?;
            let name = CStr::from_ptr(ffi::flatmin_script_name(self.0, place)).to_string_lossy().into_owned();
            let is_parameter = ffi::flatmin_script_is_parameter(self.0, place) != 0;
            Ok(ScriptTensor { name, is_parameter, value: Tensor::from_ptr(out) })
        }
    }

    /// Puts another tensor in a place. A place that does not exist is an error of the caller.
    ///
    /// # Errors
    /// If the tensor does not suit the attribute.
    pub fn set(&self, place: usize, value: &Tensor) -> Result<()> {
        self.check_place(place)?;
        check(unsafe { ffi::flatmin_script_set(self.0, place as i64, value.as_ptr()) })
    }

    /// Training or evaluation mode, of the whole module.
    ///
    /// # Errors
    /// If libtorch cannot.
    pub fn train(&self, on: bool) -> Result<()> {
        check(unsafe { ffi::flatmin_script_train(self.0, on.into()) })
    }

    /// Evaluation mode of the one submodule that holds this place, and of what is inside it.
    ///
    /// # Errors
    /// If libtorch cannot.
    pub fn evaluate_owner(&self, place: usize) -> Result<()> {
        self.check_place(place)?;
        check(unsafe { ffi::flatmin_script_evaluate_owner(self.0, place as i64) })
    }

    /// # Errors
    /// What the module throws, or an answer that is no tensor.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let mut out = std::ptr::null_mut();
        // SAFETY: on success `out` is a new tensor that the returned value owns.
        unsafe {
            check(ffi::flatmin_script_forward(self.0, input.as_ptr(), &mut out))?;
            Ok(Tensor::from_ptr(out))
        }
    }

    fn check_place(&self, place: usize) -> Result<()> {
        let count = unsafe { ffi::flatmin_script_count(self.0) } as usize;
        if place < count {
            return Ok(());
        }
        Err(Error::Shim(format!("a TorchScript module has {count} tensors; there is no place {place}")))
    }
}

impl Drop for ScriptModule {
    fn drop(&mut self) {
        unsafe { ffi::flatmin_script_free(self.0) }
    }
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Error::Shim("a path with a zero byte".into()))
}
