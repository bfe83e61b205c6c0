//! Link flags that N-API modules need.

fn main() {
    napi_build::setup();
}
