//! PyTorch's defaults.

pub(super) fn one() -> i64 {
    1
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn small() -> f64 {
    1e-5
}

pub(super) fn tenth() -> f64 {
    0.1
}

pub(super) fn hundredth() -> f64 {
    0.01
}

pub(super) fn millionth() -> f64 {
    1e-6
}

pub(super) fn half() -> f64 {
    0.5
}

pub(super) fn shortcut() -> String {
    "shortcut".into()
}
