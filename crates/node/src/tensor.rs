//! `BindingTensor`: numbers with a shape, copied in and out.

use std::sync::atomic::{AtomicI64, Ordering};

use flatmin_nn::device_name;
use napi::Env;
use napi::bindgen_prelude::{
    BigInt64Array, Either4, Float32Array, Float64Array, ObjectFinalize, PromiseRaw, Uint8Array,
};
use napi_derive::napi;
use tch::{Device, Kind, Tensor};

use crate::compute;
use crate::disposable::Disposable;
use crate::errors::{OrThrow, failure};

type TensorData = Either4<Float32Array, Float64Array, Uint8Array, BigInt64Array>;

#[napi(custom_finalize)]
pub struct BindingTensor {
    tensor: Disposable<Tensor>,
    /// Bytes that the garbage collector was told of.
    external: AtomicI64,
    shape: Vec<i64>,
    kind: Kind,
    device: Device,
}

impl ObjectFinalize for BindingTensor {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.release(&env)
    }
}

impl BindingTensor {
    /// Hands a tensor to JavaScript, whose garbage collector learns how much memory hangs on it.
    pub fn new(env: &Env, tensor: Tensor) -> napi::Result<Self> {
        let (shape, kind, device) = (tensor.size(), tensor.kind(), tensor.device());
        let bytes = (tensor.numel() * kind.elt_size_in_bytes()) as i64;
        env.adjust_external_memory(bytes)?;
        Ok(Self { tensor: Disposable::new("tensor", tensor), external: AtomicI64::new(bytes), shape, kind, device })
    }

    fn release(&self, env: &Env) -> napi::Result<()> {
        self.tensor.dispose();
        let bytes = self.external.swap(0, Ordering::Relaxed);
        if bytes > 0 {
            env.adjust_external_memory(-bytes)?;
        }
        Ok(())
    }

    /// A handle to the same numbers.
    pub fn handle(&self) -> napi::Result<Tensor> {
        self.tensor.with(Tensor::shallow_clone)
    }

    fn copy<T: tch::kind::Element>(env: &Env, data: &[T], shape: &[i64]) -> napi::Result<Self> {
        let count = shape.iter().try_fold(1i64, |count, &size| count.checked_mul(size).filter(|_| size >= 0));
        if count != Some(data.len() as i64) {
            let expected = "sizes of 0 or more whose product is the number of values";
            let message = format!("{} values have the shape {shape:?}; expected {expected}", data.len());
            return Err(failure("ERR_FLATMIN_SHAPE", message));
        }
        Self::new(env, Tensor::f_from_slice(data).and_then(|tensor| tensor.f_reshape(shape)).or_throw()?)
    }
}

#[napi]
impl BindingTensor {
    #[napi]
    pub fn from_float32(env: &Env, data: &[f32], shape: Vec<i64>) -> napi::Result<Self> {
        Self::copy(env, data, &shape)
    }

    #[napi]
    pub fn from_float64(env: &Env, data: &[f64], shape: Vec<i64>) -> napi::Result<Self> {
        Self::copy(env, data, &shape)
    }

    #[napi]
    pub fn from_uint8(env: &Env, data: &[u8], shape: Vec<i64>) -> napi::Result<Self> {
        Self::copy(env, data, &shape)
    }

    #[napi]
    pub fn from_int64(env: &Env, data: BigInt64Array, shape: Vec<i64>) -> napi::Result<Self> {
        Self::copy(env, &data, &shape)
    }

    #[napi(getter)]
    pub fn shape(&self) -> Vec<i64> {
        self.shape.clone()
    }

    #[napi(getter)]
    pub fn dtype(&self) -> String {
        let name = match self.kind {
            Kind::Float => "float32",
            Kind::Double => "float64",
            Kind::Uint8 => "uint8",
            Kind::Int64 => "int64",
            Kind::BFloat16 => "bfloat16",
            other => return format!("{other:?}").to_lowercase(),
        };
        name.to_owned()
    }

    #[napi(getter)]
    pub fn device(&self) -> String {
        device_name(self.device)
    }

    /// The numbers in row-major order, copied; those of bfloat16 as float32, which holds them exactly.
    #[napi(ts_return_type = "Promise<Float32Array | Float64Array | Uint8Array | BigInt64Array>")]
    pub fn data<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, TensorData>> {
        let tensor = self.handle()?;
        compute::promise(env, move || read(&tensor))
    }

    #[napi]
    pub fn dispose(&self, env: &Env) -> napi::Result<()> {
        self.release(env)
    }
}

fn read(tensor: &Tensor) -> napi::Result<TensorData> {
    let kind = match tensor.kind() {
        kind @ (Kind::Float | Kind::Double | Kind::Uint8) => kind,
        Kind::BFloat16 => Kind::Float,
        _ => Kind::Int64,
    };
    let flat = tensor.f_to_device(Device::Cpu).and_then(|tensor| tensor.f_to_kind(kind)?.f_contiguous()?.f_view([-1]));
    let flat = flat.or_throw()?;
    Ok(match kind {
        Kind::Float => Either4::A(Vec::try_from(&flat).or_throw()?.into()),
        Kind::Double => Either4::B(Vec::try_from(&flat).or_throw()?.into()),
        Kind::Uint8 => Either4::C(Vec::try_from(&flat).or_throw()?.into()),
        _ => Either4::D(Vec::try_from(&flat).or_throw()?.into()),
    })
}
