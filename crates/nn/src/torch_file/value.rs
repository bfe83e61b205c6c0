//! The values that a pickle builds, and how they are looked up.

use super::objects::{Storage, TensorView};

/// A value in [`Objects`].
pub(super) type Id = usize;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i128),
    Float,
    Text(String),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// In the order of the file.
    Dict(Vec<(Id, Id)>),
    /// A class or function by its full name.
    Global(String),
    Storage(Storage),
    Tensor(TensorView),
    /// Something harmless that is no weight, such as a NumPy number; its parts are not kept.
    Opaque,
}

impl Value {
    /// As an error message says it.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Float => "a float",
            Self::Text(_) => "a str",
            Self::Bytes => "bytes",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a class",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
            Self::Opaque => "an object that is no tensor",
        }
    }
}

/// What one pickle built.
#[derive(Debug)]
pub(super) struct Objects {
    values: Vec<Value>,
    root: Id,
}

impl Objects {
    pub fn new(values: Vec<Value>, root: Id) -> Self {
        Self { values, root }
    }

    pub fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    pub fn root(&self) -> &Value {
        &self.values[self.root]
    }

    /// All storages that the pickle names, some of them several times.
    pub fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.values.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some(storage),
            _ => None,
        })
    }

    /// The value under a text key.
    pub fn entry<'a>(&'a self, dict: &'a Value, name: &str) -> Option<&'a Value> {
        self.entries(dict).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Text keys and their values; nothing for what is no dict.
    pub fn entries<'a>(&'a self, dict: &'a Value) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let pairs = match dict {
            Value::Dict(pairs) => &pairs[..],
            _ => &[],
        };
        pairs.iter().filter_map(|&(key, value)| match self.get(key) {
            Value::Text(key) => Some((key.as_str(), self.get(value))),
            _ => None,
        })
    }
}
