//! Functions of the module: preparing libtorch, what was loaded, and the model zoo.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flatmin_nn::{Dtype, ModelSpec, Summary, cuda_library, use_cuda_library, zoo};
use flatmin_torch_ext::cuda::{Cuda, file_name};
use flatmin_torch_ext::{Switches, configure, cpu_capability, num_threads, set_num_threads, torch_version};
use napi_derive::napi;
use serde::Deserialize;
use serde_json::Value;

use crate::compute;
use crate::errors::{OrThrow, wrong_option};
use crate::json::{self, options_or_default, to_json};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct LoadOptions {
    threads: Option<i32>,
    cuda_libraries: Option<PathBuf>,
    cuda: Option<CudaOptions>,
}

/// What is left out stays as it is.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct CudaOptions {
    tf32_matmul: Option<bool>,
    tf32_convolutions: Option<bool>,
    cudnn_benchmark: Option<bool>,
    deterministic: Option<bool>,
}

impl CudaOptions {
    fn apply(&self) -> napi::Result<()> {
        let now = Switches::current().or_throw()?;
        let switches = Switches {
            tf32_matmul: self.tf32_matmul.unwrap_or(now.tf32_matmul),
            tf32_convolutions: self.tf32_convolutions.unwrap_or(now.tf32_convolutions),
            cudnn_benchmark: self.cudnn_benchmark.unwrap_or(now.cudnn_benchmark),
            deterministic: self.deterministic.unwrap_or(now.deterministic),
        };
        switches.set().or_throw()
    }
}

/// The CUDA library in use, or why there is none; unset until the CUDA part of libtorch was loaded.
static CUDA_LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// Without the library, GPUs compute with libtorch's operations alone: slower, so it is said and no error.
fn open_cuda_library(folder: &Path) -> Result<PathBuf, String> {
    let cuda = Cuda::open(folder).map_err(|error| error.to_string())?;
    use_cuda_library(cuda);
    Ok(folder.join(file_name()))
}

/// Prepares libtorch for training. May be called again, to change the number of threads, or how a GPU computes (`cuda`).
/// `cudaLibraries` is the folder of the CUDA library, once libtorch_cuda is loaded.
#[napi(ts_args_type = "options?: { threads?: number, cudaLibraries?: string, cuda?: object }")]
pub fn load(options: Option<Value>) -> napi::Result<()> {
    let LoadOptions { threads, cuda_libraries, cuda } = options_or_default("load", options)?;
    configure();
    if let Some(cuda) = cuda {
        cuda.apply()?;
    }
    if let Some(folder) = cuda_libraries {
        CUDA_LIBRARY.get_or_init(|| open_cuda_library(&folder));
    }
    let Some(threads) = threads else { return Ok(()) };
    if !(1..=1024).contains(&threads) {
        return Err(wrong_option("threads", threads, "a whole number from 1 to 1024"));
    }
    // Here for threads that start later, there for the one that may be running.
    set_num_threads(threads);
    drop(compute::submit(move || {
        set_num_threads(threads);
        Ok(())
    })?);
    Ok(())
}

/// What the loaded native side is.
#[napi(object)]
pub struct NativeInfo {
    pub torch_version: String,
    /// Threads that torch computes with.
    pub threads: i32,
    /// The instruction set that libtorch's kernels use here.
    pub cpu_capability: String,
    /// GPUs that torch can use; 0 where its CUDA part is not loaded.
    pub cuda_devices: i64,
    /// The file of the CUDA library in use.
    pub cuda_library: Option<String>,
    /// Why there is none, where libtorch_cuda is loaded.
    pub cuda_library_problem: Option<String>,
    pub addon_version: String,
}

#[napi]
pub fn info() -> NativeInfo {
    let cuda_devices = if tch::Cuda::is_available() { tch::Cuda::device_count() } else { 0 };
    let (library, problem) = match CUDA_LIBRARY.get() {
        None => (None, None),
        Some(Ok(path)) => (Some(path.to_string_lossy().into_owned()), None),
        Some(Err(problem)) => (None, Some(problem.clone())),
    };
    NativeInfo {
        cuda_library: library,
        cuda_library_problem: problem,
        torch_version: torch_version().to_owned(),
        threads: num_threads(),
        cpu_capability: cpu_capability().to_owned(),
        cuda_devices,
        addon_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Name and memory of a GPU, where the CUDA library can tell.
#[napi]
pub fn gpu(index: u32) -> Option<String> {
    let properties = cuda_library()?.properties(index as usize).ok()?;
    Some(format!("{} ({:.1} GiB)", properties.name, properties.memory as f64 / f64::from(1u32 << 30)))
}

/// Names of the models that `zooSpec` knows.
#[napi]
pub fn zoo_names() -> Vec<String> {
    zoo::names().iter().map(ToString::to_string).collect()
}

/// The spec of a model of the zoo.
#[napi(
    ts_args_type = "name: string, options?: { numClasses?: number, inputShape?: [number, number, number] }",
    ts_return_type = "object"
)]
pub fn zoo_spec(name: String, options: Option<Value>) -> napi::Result<Value> {
    let options = options_or_default("zooSpec", options)?;
    to_json(&zoo::spec(&name, &options).or_throw()?)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct SummaryOptions {
    dtype: Dtype,
}

/// Layers, shapes, parameters and costs of the model of a spec, without making it.
#[napi(ts_args_type = "spec: object, options?: { dtype?: string }", ts_return_type = "object")]
pub fn spec_summary(spec: Value, options: Option<Value>) -> napi::Result<Value> {
    let SummaryOptions { dtype } = options_or_default("specSummary", options)?;
    let spec: ModelSpec = json::options("model spec", spec)?;
    to_json(&Summary::of(&spec, dtype).or_throw()?)
}
