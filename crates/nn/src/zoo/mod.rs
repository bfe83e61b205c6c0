//! Models by name. A model of the zoo is a function that writes a spec, nothing more.

mod cifar_resnet;
mod demo;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::spec::ModelSpec;

/// What can be changed about a model of the zoo.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZooOptions {
    /// 10 unless given.
    #[serde(default)]
    pub num_classes: Option<i64>,
    /// `[channels, height, width]`; the data set's that the model was made for unless given.
    #[serde(default)]
    pub input_shape: Option<[i64; 3]>,
}

/// The models that [`spec`] knows.
pub fn names() -> &'static [&'static str] {
    &["resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "demo"]
}

/// The spec of a model by its name.
///
/// # Errors
/// `ERR_FLATMIN_NAME` for another name, `ERR_FLATMIN_OPTION` for impossible options.
pub fn spec(name: &str, options: &ZooOptions) -> Result<ModelSpec> {
    let spec = match name {
        "resnet20" => cifar_resnet::spec(20, options),
        "resnet32" => cifar_resnet::spec(32, options),
        "resnet44" => cifar_resnet::spec(44, options),
        "resnet56" => cifar_resnet::spec(56, options),
        "resnet110" => cifar_resnet::spec(110, options),
        "demo" => demo::spec(options),
        _ => {
            let expected = format!("there are {}", names().join(", "));
            return Err(Error::Name { what: "model".into(), found: name.into(), expected });
        }
    };
    spec.validate()?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Model};

    #[test]
    fn every_name_builds() {
        for name in names() {
            let spec = spec(name, &ZooOptions::default()).unwrap();
            assert_eq!(&spec.name, name);
            let model = Model::new(spec.clone(), Dtype::Float32, 0).unwrap();
            assert_eq!(ModelSpec::from_json(&spec.to_json().unwrap()).unwrap(), *model.spec());
        }
    }

    #[test]
    fn classes_and_input_can_be_chosen() {
        let options = ZooOptions { num_classes: Some(100), input_shape: Some([1, 20, 24]) };
        for name in ["resnet20", "demo"] {
            let model = Model::new(spec(name, &options).unwrap(), Dtype::Float32, 0).unwrap();
            assert_eq!(model.summary().layers.last().unwrap().output_shape, [100]);
        }
    }

    #[test]
    fn unknown_names_and_options_are_refused() {
        let error = spec("resnet18", &ZooOptions::default()).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_NAME");
        assert!(error.to_string().contains("resnet20"));
        let options = ZooOptions { num_classes: Some(0), input_shape: None };
        assert_eq!(spec("resnet20", &options).unwrap_err().code(), "ERR_FLATMIN_OPTION");
    }
}
