//! Compiles the C++ shim against the libtorch that torch-sys links (its build script hands the folder on).

use std::env;
use std::path::PathBuf;

fn main() {
    let lib = PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB").expect(
        "torch-sys gave no libtorch folder: set LIBTORCH to an unpacked libtorch (`node scripts/cargo.mjs` does)",
    ));
    let include = lib.join("../include");
    let sources = [
        "shim/allocator.cpp",
        "shim/conv.cpp",
        "shim/norm_act.cpp",
        "shim/runtime.cpp",
        "shim/script.cpp",
        "shim/tensor.cpp",
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
