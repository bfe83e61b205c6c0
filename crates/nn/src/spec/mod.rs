//! The model spec: what a model is made of, as plain data. TypeScript, the zoo and saved files share this one language,
//! so a file that carries its spec needs nothing else to become a model again.

mod composed;
mod defaults;
mod image;
mod layer;
mod token;

pub use composed::{Activation, Gate, Parallel, Residual, Sequential, Shortcut};
pub use image::{
    BatchNorm2d, Conv2d, Dropout, Flatten, GammaInit, GlobalAvgPool2d, Init, Linear, Pool2d, Relu, ShakeDrop, ZeroPad,
};
pub use layer::Layer;
pub use token::{
    Approximation, ClassToken, DropMode, Gelu, LayerNorm, LayerScale, LeakyRelu, Pointwise, Pool, PositionEmbedding,
    SelfAttention, StochasticDepth, ToImage, TokenPool,
};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The version of the spec language that this crate reads and writes.
pub const FORMAT: u32 = 1;

/// Sizes beyond this are mistakes, and sums and doubles of smaller ones cannot overflow.
const LARGEST_SIZE: i64 = 1 << 24;

/// A model without its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelSpec {
    /// [`FORMAT`].
    pub format: u32,
    pub name: String,
    /// `[channels, height, width]` of one image.
    pub input_shape: [i64; 3],
    pub num_classes: i64,
    #[serde(deserialize_with = "layer::layer_list")]
    pub layers: Vec<Layer>,
    /// One for each class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_names: Option<Vec<String>>,
    /// What images went through in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalization: Option<Normalization>,
}

/// (pixel - mean) / std by channel, for pixels scaled to [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Normalization {
    pub mean: Vec<f64>,
    pub std: Vec<f64>,
}

impl ModelSpec {
    /// Reads the JSON of a spec.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION`, naming the layer and what is wrong with it.
    pub fn from_json(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(Self::malformed)
    }

    /// As [`Self::from_json`], from JSON that was parsed already.
    pub fn from_value(value: serde_json::Value) -> Result<Self> {
        serde_json::from_value(value).map_err(Self::malformed)
    }

    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Self::malformed)
    }

    fn malformed(error: serde_json::Error) -> Error {
        Error::option(
            "the model spec",
            format!("malformed ({error})"),
            "the fields that the error names, and no others",
        )
    }

    /// Checks all that can be known without the layers' shapes; the layers are checked when the model is built.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION`, naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.format != FORMAT {
            let expected = format!("{FORMAT}; a file of a newer format needs a newer version of flatmin");
            return Err(Error::option("the model spec's format", self.format, expected));
        }
        for size in self.input_shape {
            check_size("inputShape", size, 1)?;
        }
        check_size("numClasses", self.num_classes, 1)?;
        self.check_class_names(self.class_names.as_deref())?;
        self.check_normalization(self.normalization.as_ref())
    }

    pub(crate) fn check_class_names(&self, names: Option<&[String]>) -> Result<()> {
        match names {
            Some(names) if names.len() as i64 != self.num_classes => {
                let found = format!("a list of {} names", names.len());
                Err(Error::option("classNames", found, format!("{} names, one for each class", self.num_classes)))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn check_normalization(&self, normalization: Option<&Normalization>) -> Result<()> {
        let Some(Normalization { mean, std }) = normalization else { return Ok(()) };
        let channels = self.input_shape[0];
        for (field, values) in [("normalization.mean", mean), ("normalization.std", std)] {
            if values.len() as i64 != channels {
                let expected = format!("{channels} numbers, one for each channel of inputShape");
                return Err(Error::option(field, format!("{values:?}"), expected));
            }
        }
        if mean.iter().any(|value| !value.is_finite()) {
            return Err(Error::option("normalization.mean", format!("{mean:?}"), "finite numbers"));
        }
        if std.iter().any(|value| !value.is_finite() || *value <= 0.0) {
            return Err(Error::option("normalization.std", format!("{std:?}"), "positive, finite numbers"));
        }
        Ok(())
    }
}

/// Refuses a size that is too small or absurdly large.
pub(crate) fn check_size(option: impl Into<String>, size: i64, least: i64) -> Result<()> {
    if (least..=LARGEST_SIZE).contains(&size) {
        return Ok(());
    }
    Err(Error::option(option, size, format!("a whole number from {least} to {LARGEST_SIZE}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec_of(layers: serde_json::Value) -> serde_json::Value {
        json!({ "format": 1, "name": "net", "inputShape": [3, 8, 8], "numClasses": 10, "layers": layers })
    }

    fn message_of(layers: serde_json::Value) -> String {
        let error = ModelSpec::from_value(spec_of(layers)).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
        error.to_string()
    }

    #[test]
    fn every_layer_survives_json() {
        let spec = spec_of(json!([
            { "type": "conv2d", "name": "stem", "outChannels": 8, "kernelSize": 3, "stride": 2, "padding": 1,
              "groups": 1, "bias": false, "init": "kaimingNormal" },
            { "type": "batchNorm2d", "eps": 1e-3, "momentum": 0.01, "affine": false, "init": "zeros" },
            { "type": "relu" },
            { "type": "maxPool2d", "kernelSize": 2, "stride": 1, "padding": 1 },
            { "type": "avgPool2d", "kernelSize": 2, "padding": 0 },
            { "type": "dropout", "p": 0.25 },
            { "type": "sequential", "name": "body", "layers": [
                { "type": "residual", "layers": [{ "type": "relu" }], "shortcut": "optionA",
                  "shortcutName": "shortcut", "activation": "none" },
                { "type": "residual", "layers": [{ "type": "relu" }], "shortcut": "identity",
                  "shortcutName": "shortcut", "activation": "relu" },
                { "type": "residual", "layers": [{ "type": "relu" }], "shortcut": { "layers": [{ "type": "relu" }] },
                  "shortcutName": "downsample", "activation": "relu" },
                { "type": "residual", "shared": [{ "type": "relu" }], "layers": [], "shortcut": "identity",
                  "shortcutName": "", "activation": "none" },
            ] },
            { "type": "concat", "name": "dense", "branches": [[], [{ "type": "relu6", "name": "act" }]] },
            { "type": "sum", "branches": [[{ "type": "shakeDrop", "p": 0.25 }], [{ "type": "relu" }], []] },
            { "type": "shakeShake", "branches": [[{ "type": "relu" }], [{ "type": "relu" }]] },
            { "type": "zeroPad", "left": 1, "right": -1, "top": 2, "bottom": 0, "channels": 3 },
            { "type": "globalAvgPool2d" },
            { "type": "flatten" },
            { "type": "linear", "outFeatures": 10, "bias": true, "init": "kaimingUniform" },
        ]));
        let parsed = ModelSpec::from_value(spec.clone()).unwrap();
        assert_eq!(serde_json::to_value(&parsed).unwrap(), spec);
        assert_eq!(ModelSpec::from_json(&parsed.to_json().unwrap()).unwrap(), parsed);
        let kinds = spec["layers"].as_array().unwrap().iter().map(|layer| layer["type"].as_str().unwrap());
        assert!(parsed.layers.iter().map(Layer::kind).eq(kinds));
    }

    #[test]
    fn defaults_are_pytorchs() {
        let spec = spec_of(json!([
            { "type": "conv2d", "outChannels": 8, "kernelSize": 3 }, { "type": "batchNorm2d" }, { "type": "dropout" },
            { "type": "residual", "layers": [] },
        ]));
        let layers = ModelSpec::from_value(spec).unwrap().layers;
        let conv = Conv2d {
            name: None,
            out_channels: 8,
            kernel_size: 3,
            stride: 1,
            padding: 0,
            groups: 1,
            bias: true,
            init: Init::KaimingUniform,
        };
        assert_eq!(layers[0], Layer::Conv2d(conv));
        let norm = BatchNorm2d { name: None, eps: 1e-5, momentum: 0.1, affine: true, init: GammaInit::Ones };
        assert_eq!(layers[1], Layer::BatchNorm2d(norm));
        assert_eq!(layers[2], Layer::Dropout(Dropout { p: 0.5 }));
        let Layer::Residual(residual) = &layers[3] else { panic!("{:?}", layers[3]) };
        assert_eq!((&residual.shortcut, residual.activation), (&Shortcut::Identity, Activation::Relu));
    }

    #[test]
    fn an_unknown_field_is_named_with_its_layer() {
        let typo = json!([{ "type": "relu" }, { "type": "conv2d", "outChanels": 8, "kernelSize": 3 }]);
        let message = message_of(typo);
        assert!(message.contains("layers[1] (conv2d): unknown field `outChanels`"), "{message}");
        for kind in ["flatten", "globalAvgPool2d", "relu", "dropout"] {
            let message = message_of(json!([{ "type": kind, "size": 1 }]));
            assert!(message.contains("unknown field `size`"), "{message}");
        }
        let nested = json!([{ "type": "sequential", "layers": [{ "type": "linear", "outFeatures": 2, "biass": 1 }] }]);
        let message = message_of(nested);
        assert!(message.contains("layers[0] (sequential): layers[0] (linear): unknown field `biass`"), "{message}");
    }

    #[test]
    fn an_unknown_layer_is_answered_with_the_known_ones() {
        let message = message_of(json!([{ "type": "conv3d" }]));
        assert!(message.contains("conv3d") && message.contains("`conv2d`"), "{message}");
        assert!(message_of(json!([{}])).contains("type"));
        assert!(message_of(json!([{ "type": "linear" }])).contains("outFeatures"));
    }

    #[test]
    fn fields_are_validated() {
        let good = ModelSpec::from_value(spec_of(json!([]))).unwrap();
        assert!(good.validate().is_ok());
        let normalization = |mean: &[f64], std: &[f64]| Some(Normalization { mean: mean.into(), std: std.into() });
        for (bad, field) in [
            (ModelSpec { format: 2, ..good.clone() }, "format"),
            (ModelSpec { input_shape: [3, 0, 8], ..good.clone() }, "inputShape"),
            (ModelSpec { input_shape: [3, i64::MAX, 8], ..good.clone() }, "inputShape"),
            (ModelSpec { num_classes: 0, ..good.clone() }, "numClasses"),
            (ModelSpec { class_names: Some(vec!["cat".into()]), ..good.clone() }, "classNames"),
            (ModelSpec { normalization: normalization(&[0.0; 3], &[1.0; 2]), ..good.clone() }, "normalization.std"),
            (
                ModelSpec { normalization: normalization(&[0.0; 3], &[1.0, 0.0, 1.0]), ..good.clone() },
                "normalization.std",
            ),
            (
                ModelSpec { normalization: normalization(&[f64::NAN; 3], &[1.0; 3]), ..good.clone() },
                "normalization.mean",
            ),
        ] {
            let message = bad.validate().unwrap_err().to_string();
            assert!(message.contains(field), "{message}");
        }
    }
}
