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
            return model.moved(self.engine());
        }
        let report = model.load_state_dict(kept, false)?;
        match report.mismatched.into_iter().next() {
            None => model.moved(self.engine()),
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
        let place = find(&spec["layers"], "/layers", 0, &path);
        let Some(place) = place.and_then(|pointer| spec.pointer_mut(&pointer)) else {
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

/// The JSON pointer of the layer at a dotted path, sought in a list whose layers without a name are counted from `first`.
fn find(layers: &Value, at: &str, first: usize, path: &[&str]) -> Option<String> {
    layers.as_array()?.iter().enumerate().find_map(|(index, layer)| {
        let at = format!("{at}/{index}");
        let name = named(layer["name"].as_str(), first + index);
        if name.is_empty() {
            return find_inside(layer, &at, path);
        }
        match path.strip_prefix(&[name.as_str()])? {
            [] => Some(at),
            rest => find_inside(layer, &at, rest),
        }
    })
}

/// The same in the lists of a layer that is made of layers.
fn find_inside(layer: &Value, at: &str, path: &[&str]) -> Option<String> {
    let count = |list: &Value| list.as_array().map_or(0, Vec::len);
    let (shared, branch) = (count(&layer["shared"]), count(&layer["layers"]));
    let in_branches = || {
        let mut first = 0;
        layer["branches"].as_array()?.iter().enumerate().find_map(|(index, list)| {
            let found = find(list, &format!("{at}/branches/{index}"), first, path);
            first += count(list);
            found
        })
    };
    let in_shortcut = || {
        let (list, at) = (&layer["shortcut"]["layers"], format!("{at}/shortcut/layers"));
        match layer["shortcutName"].as_str().unwrap_or("shortcut") {
            "" => find(list, &at, shared + branch, path),
            name => find(list, &at, 0, path.strip_prefix(&[name])?),
        }
    };
    find(&layer["shared"], &format!("{at}/shared"), 0, path)
        .or_else(|| find(&layer["layers"], &format!("{at}/layers"), shared, path))
        .or_else(in_branches)
        .or_else(in_shortcut)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Sequential;
    use crate::zoo::{self, ZooOptions};

    /// Every layer that holds parameters is found under the name that its parameters have.
    #[test]
    fn layers_of_every_model_are_found_by_the_names_of_their_parameters() {
        for name in zoo::names() {
            let spec = zoo::spec(name, &ZooOptions::default()).unwrap();
            let value = serde_json::to_value(&spec).unwrap();
            let rows = crate::Summary::of(&spec, crate::Dtype::Float32).unwrap().layers;
            for row in rows.iter().filter(|row| row.parameters > 0) {
                let path: Vec<&str> = row.name.split('.').collect();
                let pointer = find(&value["layers"], "/layers", 0, &path);
                let found = pointer.and_then(|pointer| value.pointer(&pointer));
                let kind = found.and_then(|layer| layer["type"].as_str());
                assert_eq!(kind, Some(row.kind), "{name}: {}", row.name);
            }
        }
    }

    #[test]
    fn a_part_of_a_shortcut_can_be_replaced() {
        let spec = zoo::spec("resnet18", &ZooOptions::default()).unwrap();
        let nothing = Layer::Sequential(Sequential { name: None, layers: vec![] });
        let changed = spec.with_layer("layer2.0.downsample.1", &nothing).unwrap();
        let names = |spec: &ModelSpec| crate::Summary::of(spec, crate::Dtype::Float32).unwrap().layers.len();
        assert_eq!(names(&changed), names(&spec) - 1);
    }
}
