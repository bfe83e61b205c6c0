//! The values that a pickle builds. They refer to each other by index, so shared and cyclic structures cost nothing.

/// Place of a value among all of its pickle.
pub type Id = usize;

/// A value; `T` is what calls build.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<T> {
    None,
    Bool(bool),
    Int(i128),
    /// Its number is not kept.
    Float,
    Text(String),
    /// Bytes, and texts of Python 2 that are no UTF-8.
    Bytes(Vec<u8>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// In the order of the file.
    Dict(Vec<(Id, Id)>),
    /// A class or function by its full name.
    Global(String),
    Object(T),
    /// Something harmless whose parts are not kept, such as a set.
    Opaque,
}

impl<T> Value<T> {
    /// The bytes of a text or of bytes: Python 2 wrote both alike.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The items of a list or a tuple.
    pub fn items(&self) -> Option<&[Id]> {
        match self {
            Self::Tuple(items) | Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// As an error message says it.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Float => "a float",
            Self::Text(_) => "a str",
            Self::Bytes(_) => "bytes",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a class",
            Self::Object(_) | Self::Opaque => "an object",
        }
    }
}

/// What one pickle built.
#[derive(Debug)]
pub struct Pickle<T> {
    values: Vec<Value<T>>,
    root: Id,
}

impl<T> Pickle<T> {
    pub(crate) fn new(values: Vec<Value<T>>, root: Id) -> Self {
        Self { values, root }
    }

    pub fn get(&self, id: Id) -> &Value<T> {
        &self.values[id]
    }

    pub fn root(&self) -> &Value<T> {
        &self.values[self.root]
    }

    /// All values, in the order in which they were made.
    pub fn values(&self) -> &[Value<T>] {
        &self.values
    }

    /// The value under a key.
    pub fn entry<'a>(&'a self, dict: &'a Value<T>, name: &str) -> Option<&'a Value<T>> {
        self.pairs(dict).find(|(key, _)| key.bytes() == Some(name.as_bytes())).map(|(_, value)| value)
    }

    /// Text keys and their values; nothing for what is no dict.
    pub fn entries<'a>(&'a self, dict: &'a Value<T>) -> impl Iterator<Item = (&'a str, &'a Value<T>)> {
        self.pairs(dict).filter_map(|(key, value)| match key {
            Value::Text(key) => Some((key.as_str(), value)),
            _ => None,
        })
    }

    fn pairs<'a>(&'a self, dict: &'a Value<T>) -> impl Iterator<Item = (&'a Value<T>, &'a Value<T>)> {
        let pairs = match dict {
            Value::Dict(pairs) => &pairs[..],
            _ => &[],
        };
        pairs.iter().map(|&(key, value)| (self.get(key), self.get(value)))
    }
}
