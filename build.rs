//! Build script of the Node binding (`crates/node` names it): link flags that N-API modules need.

fn main() {
    napi_build::setup();
}
