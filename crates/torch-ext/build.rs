//! Compiles the C++ shim against the libtorch that torch-sys links (its build script hands the folder on), and the kernels of
//! the CUDA library as their twin on the CPU. (The CUDA library itself is `npm run build:cuda`'s: it needs nvcc.)

use std::env;
use std::path::PathBuf;

/// Also named in `scripts/lib/cuda-library.mjs`.
const KERNELS: &str = "cuda/kernels";

fn main() {
    compile_shim();
    compile_twin();
}

fn compile_shim() {
    let lib = PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB").expect(
        "torch-sys gave no libtorch folder: set LIBTORCH to an unpacked libtorch (`node scripts/cargo.mjs` does)",
    ));
    let include = lib.join("../include");
    let sources = [
        "shim/allocator.cpp",
        "shim/conv.cpp",
        "shim/device.cpp",
        "shim/image.cpp",
        "shim/matmul.cpp",
        "shim/norm_act.cpp",
        "shim/runtime.cpp",
        "shim/script.cpp",
        "shim/tensor.cpp",
        "shim/unfolded.cpp",
    ];
    for file in sources.iter().chain(&["shim/shim.h", "build.rs"]) {
        println!("cargo:rerun-if-changed={file}");
    }
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .flag("-fopenmp")
        .flag("-Wno-unused-parameter")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(sources)
        .compile("flatmin_shim");
    println!("cargo:rustc-link-search=native={}", lib.display());
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    println!("cargo:rustc-link-lib=gomp");
}

/// Plain C++ where nvcc is not the compiler. Products and sums stay apart, as on the GPU, so that both round alike.
fn compile_twin() {
    println!("cargo:rerun-if-changed=cuda/flatmin_cuda.h");
    println!("cargo:rerun-if-changed={KERNELS}");
    let entries = std::fs::read_dir(KERNELS).expect("the kernels' folder");
    let mut sources: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
    sources.sort();
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .flag("-xc++")
        .flag("-ffp-contract=off")
        .files(sources)
        .compile("flatmin_twin");
}
