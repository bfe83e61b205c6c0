//! Settings of the layers that are made of layers.

use serde::{Deserialize, Serialize};

use super::defaults::shortcut;
use super::layer::{Layer, branch_list, layer_list};

/// Layers in order, under one name; without layers the identity. Several of one name may stand in one list, if their
/// layers have different names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sequential {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "layer_list")]
    pub layers: Vec<Layer>,
}

/// activation(layers(x) + shortcut(x)) (He 2016). With the name `""` its layers are named as if they stood in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Residual {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Run before the branch and the shortcut, for both: the first activation of a pre-activation block with a projection
    /// (He 2016b).
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "layer_list")]
    pub shared: Vec<Layer>,
    /// Those without a name are counted after the shared ones.
    #[serde(deserialize_with = "layer_list")]
    pub layers: Vec<Layer>,
    #[serde(default)]
    pub shortcut: Shortcut,
    /// Of a shortcut of layers, in the state dict; `""` puts its layers beside those of the branch.
    #[serde(default = "shortcut")]
    pub shortcut_name: String,
    #[serde(default)]
    pub activation: Activation,
}

/// In JSON `"identity"`, `"optionA"` or `{"layers": [...]}`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Shortcut {
    #[default]
    Identity,
    /// Without parameters (He 2016, section 3.3, option A): every s-th row and column, then zero channels on both sides.
    OptionA,
    /// Layers named `shortcut.0`, `shortcut.1`, ... within the residual, or as `shortcutName` says.
    Layers(#[serde(deserialize_with = "layer_list")] Vec<Layer>),
}

/// Branches that read the same input. An empty one passes it on. All their layers share the names of this one: those
/// without a name are counted through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parallel {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "branch_list")]
    pub branches: Vec<Vec<Layer>>,
}

/// x * layers(x), where the layers give x's shape or one number a channel (squeeze and excitation, Hu 2018).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "layer_list")]
    pub layers: Vec<Layer>,
}

/// What is applied to the sum of a residual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Activation {
    #[default]
    Relu,
    None,
}
