//! Wide ResNets for CIFAR (Zagoruyko 2016, table 1): pre-activation blocks with k times the channels; named as in
//! pytorchcv.

use super::preact_resnet::pre_activation_net;
use super::units::basic;
use super::{Entry, ZooOptions};
use crate::spec::ModelSpec;

const OPTIONS: &[&str] = &["dropout"];

pub(super) const MODELS: &[Entry] = &[
    Entry { name: "wrn16_8", options: OPTIONS, spec: |options| spec(16, 8, options) },
    Entry { name: "wrn28_2", options: OPTIONS, spec: |options| spec(28, 2, options) },
    Entry { name: "wrn28_10", options: OPTIONS, spec: |options| spec(28, 10, options) },
    Entry { name: "wrn40_2", options: OPTIONS, spec: |options| spec(40, 2, options) },
];

/// A net of `depth` = 6n + 4 layers: three stages of n units with 16, 32 and 64 times `width` channels.
fn spec(depth: usize, width: i64, options: &ZooOptions) -> ModelSpec {
    let stages = [16, 32, 64].map(|channels| ((depth - 4) / 6, channels * width));
    pre_activation_net(&format!("wrn{depth}_{width}"), 16, &stages, basic, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Summary};

    /// Table 4 of the paper rounds three of them to 11.0, 36.5 and 2.2 million.
    #[test]
    fn parameter_counts_are_those_of_the_paper() {
        for (depth, width, parameters) in
            [(16, 8, 10_961_370), (28, 2, 1_467_610), (28, 10, 36_479_194), (40, 2, 2_243_546)]
        {
            let summary = Summary::of(&spec(depth, width, &ZooOptions::default()), Dtype::Float32).unwrap();
            assert_eq!(summary.parameters, parameters, "wrn{depth}_{width}");
        }
    }
}
