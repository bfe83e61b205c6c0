//! Which of the dicts in a file is the state dict: the root itself, the only one that holds tensors, or the one with a name
//! that is usual for it. A caller's key decides otherwise.

use std::path::Path;

use super::objects::{Part, TensorView};
use super::pickle::{Objects, Value};
use crate::error::{Error, Result};

/// Names under which training scripts keep the weights beside other tensors.
const USUAL: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Names and tensors of the state dict. What is no tensor there (a version, say) is left out.
pub(super) fn state_dict<'a>(
    objects: &'a Objects,
    path: &Path,
    key: Option<&str>,
) -> Result<Vec<(&'a str, &'a TensorView)>> {
    let dict = match key {
        Some(key) => follow(objects, key)?,
        None => find(objects, path)?,
    };
    Ok(tensors(objects, dict).collect())
}

fn tensors<'a>(objects: &'a Objects, dict: &'a Value) -> impl Iterator<Item = (&'a str, &'a TensorView)> {
    objects.entries(dict).filter_map(|(name, value)| match value {
        Value::Object(Part::Tensor(view)) => Some((name, view)),
        _ => None,
    })
}

fn holds_tensors(objects: &Objects, dict: &Value) -> bool {
    tensors(objects, dict).next().is_some()
}

/// The dict under a key, or under keys joined by dots.
fn follow<'a>(objects: &'a Objects, key: &str) -> Result<&'a Value> {
    let root = objects.root();
    let found =
        objects.entry(root, key).or_else(|| key.split('.').try_fold(root, |dict, part| objects.entry(dict, part)));
    match found {
        Some(dict) if holds_tensors(objects, dict) => Ok(dict),
        Some(other) => {
            let found = format!("'{key}', where the file has {} without tensors", describe(other));
            Err(Error::option("key", found, expected(objects)))
        }
        None => Err(Error::option("key", format!("'{key}', which the file lacks"), expected(objects))),
    }
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Object(Part::Tensor(_)) => "a tensor",
        Value::Object(Part::Storage(_)) => "a storage",
        Value::Opaque => "an object that is no tensor",
        other => other.describe(),
    }
}

fn expected(objects: &Objects) -> String {
    let names = candidates(objects);
    match names[..] {
        [] if holds_tensors(objects, objects.root()) => "none: the file is a state dict itself".into(),
        [] => "a file with a dict of tensors".into(),
        _ => format!("one of {}", names.join(", ")),
    }
}

/// Keys of the root under which dicts of tensors lie.
fn candidates(objects: &Objects) -> Vec<&str> {
    objects.entries(objects.root()).filter(|(_, dict)| holds_tensors(objects, dict)).map(|(name, _)| name).collect()
}

/// Checkpoints of training scripts often have a tensor or two at the top (the best accuracy, say), so a usual name goes
/// before the root.
fn find<'a>(objects: &'a Objects, path: &Path) -> Result<&'a Value> {
    let root = objects.root();
    let names = candidates(objects);
    let usual: Vec<&str> = USUAL.into_iter().filter(|name| names.contains(name)).collect();
    let chosen = match (&usual[..], &names[..]) {
        ([only], _) => objects.entry(root, only),
        _ if holds_tensors(objects, root) => Some(root),
        (_, [only]) => objects.entry(root, only),
        _ => None,
    };
    chosen.ok_or_else(|| match names[..] {
        [] => Error::format(path, format!("it holds {}; expected a dict of tensors by name", describe(root))),
        _ => {
            let expected = format!("one of {}, the state dicts in {}", names.join(", "), path.display());
            Error::option("key", "not given", expected)
        }
    })
}
