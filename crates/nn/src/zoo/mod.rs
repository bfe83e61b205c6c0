//! Models by name. A model of the zoo is a function that writes a spec, nothing more.

mod cifar_resnet;
mod convnext;
mod demo;
mod densenet;
mod efficientnet;
mod imagenet_resnet;
mod keras_resnet;
mod mobilenet_v2;
mod parts;
mod preact_resnet;
mod pyramidnet;
mod resnext;
mod shake_shake;
mod units;
mod vgg;
mod vit;
mod wide_resnet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::spec::{GammaInit, ModelSpec};

/// What can be changed about a model of the zoo.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZooOptions {
    /// The data set's that the model was made for unless given.
    #[serde(default)]
    pub num_classes: Option<i64>,
    /// `[channels, height, width]`; the data set's that the model was made for unless given.
    #[serde(default)]
    pub input_shape: Option<[i64; 3]>,
    /// Whether the last gamma of each residual starts as 0, and the residual so as its shortcut (Goyal 2017, section 5.1).
    #[serde(default)]
    pub zero_init_residual: bool,
    /// Share of the values that dropout zeroes, where the model's paper has it; the paper's unless given.
    #[serde(default)]
    pub dropout: Option<f64>,
    /// Probability that the last residual is dropped in training; those before it are dropped less often, in equal steps
    /// (Huang 2016). The paper's unless given.
    #[serde(default)]
    pub stochastic_depth: Option<f64>,
    /// Probability that ShakeDrop scales the last residual; those before it are scaled less often, in equal steps (Yamada
    /// 2018). The paper's unless given.
    #[serde(default)]
    pub shake_drop: Option<f64>,
}

impl ZooOptions {
    /// Options that only some models have, those that were given.
    fn special(&self) -> Vec<&'static str> {
        [
            ("zeroInitResidual", self.zero_init_residual),
            ("dropout", self.dropout.is_some()),
            ("stochasticDepth", self.stochastic_depth.is_some()),
            ("shakeDrop", self.shake_drop.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }

    fn last_gamma(&self) -> GammaInit {
        if self.zero_init_residual { GammaInit::Zeros } else { GammaInit::Ones }
    }
}

/// A model of the zoo.
struct Entry {
    name: &'static str,
    /// The special options that it has.
    options: &'static [&'static str],
    spec: fn(&ZooOptions) -> ModelSpec,
}

/// A file a family.
const FAMILIES: &[&[Entry]] = &[
    cifar_resnet::MODELS,
    keras_resnet::MODELS,
    preact_resnet::MODELS,
    wide_resnet::MODELS,
    resnext::MODELS,
    densenet::MODELS,
    vgg::MODELS,
    mobilenet_v2::MODELS,
    pyramidnet::MODELS,
    shake_shake::MODELS,
    imagenet_resnet::MODELS,
    efficientnet::MODELS,
    convnext::MODELS,
    vit::MODELS,
    demo::MODELS,
];

fn entries() -> impl Iterator<Item = &'static Entry> {
    FAMILIES.iter().copied().flatten()
}

/// The models that [`spec`] knows.
pub fn names() -> Vec<&'static str> {
    entries().map(|entry| entry.name).collect()
}

/// The spec of a model by its name.
///
/// # Errors
/// `ERR_FLATMIN_NAME` for another name, `ERR_FLATMIN_OPTION` for impossible options.
pub fn spec(name: &str, options: &ZooOptions) -> Result<ModelSpec> {
    let Some(entry) = entries().find(|entry| entry.name == name) else {
        let expected = format!("there are {}", names().join(", "));
        return Err(Error::Name { what: "model".into(), found: name.into(), expected });
    };
    for option in options.special() {
        if !entry.options.contains(&option) {
            let others: Vec<_> = entries().filter(|entry| entry.options.contains(&option)).map(|e| e.name).collect();
            let expected = format!("it to be left out: {name} has no such option, {} have", others.join(", "));
            return Err(Error::option(option, "given", expected));
        }
    }
    let spec = (entry.spec)(options);
    spec.validate()?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Model, Summary};

    #[test]
    fn every_name_compiles_and_survives_json() {
        for name in names() {
            let spec = spec(name, &ZooOptions::default()).unwrap();
            assert_eq!(spec.name, name);
            assert!(Summary::of(&spec, Dtype::Float32).is_ok(), "{name}");
            assert_eq!(ModelSpec::from_json(&spec.to_json().unwrap()).unwrap(), spec);
        }
    }

    #[test]
    fn special_options_change_the_models_that_have_them() {
        let options = |name: &str| match name {
            "zeroInitResidual" => ZooOptions { zero_init_residual: true, ..ZooOptions::default() },
            "dropout" => ZooOptions { dropout: Some(0.4), ..ZooOptions::default() },
            "stochasticDepth" => ZooOptions { stochastic_depth: Some(0.4), ..ZooOptions::default() },
            "shakeDrop" => ZooOptions { shake_drop: Some(0.4), ..ZooOptions::default() },
            _ => panic!("{name}"),
        };
        for entry in entries() {
            let plain = spec(entry.name, &ZooOptions::default()).unwrap();
            for option in entry.options {
                let changed = spec(entry.name, &options(option)).unwrap();
                assert_ne!(changed, plain, "{}: {option}", entry.name);
                let count = |spec| Summary::of(spec, Dtype::Float32).unwrap().parameters;
                assert_eq!(count(&changed), count(&plain), "{}: {option}", entry.name);
            }
        }
    }

    #[test]
    fn classes_and_input_can_be_chosen() {
        let options = ZooOptions { num_classes: Some(100), input_shape: Some([1, 20, 24]), ..ZooOptions::default() };
        for name in ["resnet20", "demo"] {
            let model = Model::new(spec(name, &options).unwrap(), Dtype::Float32, 0).unwrap();
            assert_eq!(model.summary().layers.last().unwrap().output_shape, [100]);
        }
    }

    #[test]
    fn unknown_names_and_options_are_refused() {
        let error = spec("resnet19", &ZooOptions::default()).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_NAME");
        assert!(error.to_string().contains("resnet20"));
        let options = ZooOptions { num_classes: Some(0), ..ZooOptions::default() };
        assert_eq!(spec("resnet20", &options).unwrap_err().code(), "ERR_FLATMIN_OPTION");
        let options = ZooOptions { zero_init_residual: true, ..ZooOptions::default() };
        let message = spec("demo", &options).unwrap_err().to_string();
        assert!(message.contains("zeroInitResidual") && message.contains("resnet50"), "{message}");
    }
}
