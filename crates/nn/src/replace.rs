//! Replacing a layer of a model, above all its head: pretrained weights for another set of classes.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::spec::{Layer, ModelSpec};

impl Model {
    /// A copy of the model with another layer in place of the one of this name (`fc`, `layer4.2.conv1`), which passes its
    /// name on. The new layer's weights are drawn with `seed`, all others are this model's. A new last linear layer sets
    /// the number of classes; class names go where they no longer fit. Nothing is frozen in the copy.
    ///
    /// # Errors
    /// `ERR_FLATMIN_NAME` if there is no such layer; `ERR_FLATMIN_SHAPE` or `ERR_FLATMIN_OPTION` if the new one does not
    /// fit in its place.
    pub fn with_layer(&self, name: &str, layer: &Layer, seed: u64) -> Result<Self> {
        if self.script().is_some() {
            return Err(Error::option(
                "replace",
                "a TorchScript model",
                "a model of layers: a program cannot be edited",
            ));
        }
        let spec = self.spec().with_layer(name, layer)?;
        let mut model = Self::new(spec, self.dtype(), seed)?;
        let below = format!("{name}.");
        let kept = self.state_dict()?.into_iter().filter(|(entry, _)| !entry.starts_with(&below));
        let kept: Vec<_> = kept.collect();
        if kept.is_empty() {
            return Ok(model);
        }
        let report = model.load_state_dict(kept, false)?;
        match report.mismatched.into_iter().next() {
            None => Ok(model),
            Some(mismatch) => {
                let what = format!("'{}', after replacing '{name}',", mismatch.name);
                let expected =
                    format!("{:?} to keep its values: choose a layer of the old one's output", mismatch.found);
                Err(Error::shape(what, &mismatch.expected, expected))
            }
        }
    }
}

impl ModelSpec {
    fn with_layer(&self, name: &str, layer: &Layer) -> Result<Self> {
        let malformed = |error: serde_json::Error| Error::option("layer", error, "a layer of the spec language");
        let mut spec = serde_json::to_value(self).map_err(malformed)?;
        let path: Vec<&str> = name.split('.').collect();
        let place = spec["layers"].as_array_mut().and_then(|layers| find(layers, &path));
        let Some(place) = place else {
            let names = self.layers.iter().enumerate().map(|(index, layer)| named(layer.name(), index));
            let expected = format!("the layers are {}", names.collect::<Vec<_>>().join(", "));
            return Err(Error::Name { what: "layer".into(), found: name.into(), expected });
        };
        let own_name = place.get("name").cloned();
        *place = serde_json::to_value(layer).map_err(malformed)?;
        if let (Some(own_name), Some(fields)) = (own_name, place.as_object_mut()) {
            fields.insert("name".into(), own_name);
        }
        let mut spec = Self::from_value(spec)?;
        spec.num_classes = classes(&spec.layers).unwrap_or(spec.num_classes);
        spec.class_names = spec.class_names.filter(|names| names.len() as i64 == spec.num_classes);
        Ok(spec)
    }
}

/// The layer at a dotted path.
fn find<'a>(layers: &'a mut [Value], path: &[&str]) -> Option<&'a mut Value> {
    let (head, rest) = path.split_first()?;
    let position =
        layers.iter().enumerate().position(|(index, layer)| named(layer["name"].as_str(), index) == **head)?;
    let layer = &mut layers[position];
    match rest {
        [] => Some(layer),
        ["shortcut", rest @ ..] if layer["shortcut"].is_object() => {
            find(layer["shortcut"]["layers"].as_array_mut()?, rest)
        }
        _ => find(layer.get_mut("layers")?.as_array_mut()?, rest),
    }
}

/// Size of the logits, where the last layer tells it.
fn classes(layers: &[Layer]) -> Option<i64> {
    match layers.last()? {
        Layer::Linear(head) => Some(head.out_features),
        Layer::Sequential(last) => classes(&last.layers),
        _ => None,
    }
}

fn named(name: Option<&str>, index: usize) -> String {
    name.map_or_else(|| index.to_string(), str::to_owned)
}
