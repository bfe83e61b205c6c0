//! The classes that state dicts are made of, and what calling one builds: tensors, their storages and containers. The list
//! is closed. A few classes that often lie beside weights are known to be harmless and passed over, unread.

use flatmin_pickle::{Fault, Id};
use tch::Kind;

use super::Reason;
use super::pickle::{Objects, Value};

/// What calls and persistent ids build.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Storage(Storage),
    Tensor(TensorView),
}

/// A flat array in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storage {
    pub key: String,
    pub kind: Kind,
    /// In elements.
    pub len: u64,
    /// Where a view of an older format begins in its root, in elements.
    pub start: i64,
}

/// A tensor: a strided view of a storage. It lies within it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorView {
    pub storage: Storage,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
}

/// Passed over: training scripts keep such things beside weights.
const HARMLESS: [&str; 11] = [
    "argparse.Namespace",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "torch.device",
    "builtins.set",
    "__builtin__.set",
];

const DICTS: [&str; 3] = ["collections.OrderedDict", "collections.defaultdict", "collections.Counter"];

const TENSORS: [&str; 5] = [
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
];

/// Tensors with attributes: (function, class, arguments, attributes).
const TYPED_TENSOR: &str = "torch._tensor._rebuild_from_type_v2";

const TENSOR_CLASSES: [&str; 2] = ["torch.Tensor", "torch.nn.parameter.Parameter"];

pub(super) fn is_known(name: &str) -> bool {
    HARMLESS.contains(&name)
        || DICTS.contains(&name)
        || TENSORS.contains(&name)
        || TENSOR_CLASSES.contains(&name)
        || matches!(name, TYPED_TENSOR | "torch.Size")
        || storage_kind(name).is_some()
        || dtype_kind(name).is_some()
}

/// Why a class is refused.
pub(super) fn refusal(name: &str) -> Reason {
    let advice = match name.split('.').next() {
        Some("torch" | "torchvision" | "timm" | "__main__" | "models") => {
            "it seems to hold a whole model; save model.state_dict() instead, or a TorchScript file for Model.fromTorchScript"
        }
        _ => "only tensors and containers are read, and nothing was executed; save model.state_dict() alone",
    };
    format!("its pickle asks for '{name}', which is no part of a state dict: {advice}")
}

/// What the class or function of this name builds.
pub(super) fn call(values: &[Value], name: &str, arguments: &[Id]) -> Result<Value, Fault> {
    let argument = |index: usize| arguments.get(index).map(|&id| &values[id]).ok_or(Fault::Malformed);
    match name {
        _ if HARMLESS.contains(&name) => Ok(Value::Opaque),
        // Arguments are a default factory, or nothing.
        _ if DICTS.contains(&name) => Ok(Value::Dict(vec![])),
        "torch.Size" => Ok(argument(0)?.clone()),
        TYPED_TENSOR => match (argument(0)?, argument(2)?) {
            (Value::Global(function), Value::Tuple(arguments)) if TENSORS.contains(&function.as_str()) => {
                call(values, function, arguments)
            }
            _ => Err(Fault::Malformed),
        },
        "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => match argument(0)? {
            tensor @ Value::Object(Part::Tensor(_)) => Ok(tensor.clone()),
            _ => Err(Fault::Malformed),
        },
        _ if TENSORS.contains(&name) => {
            let Value::Object(Part::Storage(storage)) = argument(0)? else { return Err(Fault::Malformed) };
            let mut storage = storage.clone();
            if name.ends_with("_v3") {
                let Value::Global(dtype) = argument(6)? else { return Err(Fault::Malformed) };
                let kind = dtype_kind(dtype).ok_or(Fault::Malformed)?;
                storage.len /= kind.elt_size_in_bytes() as u64;
                storage.kind = kind;
            }
            let offset = integer(argument(1)?)?;
            let (shape, strides) = (integers(values, argument(2)?)?, integers(values, argument(3)?)?);
            view(storage, offset, shape, strides).map(|view| Value::Object(Part::Tensor(view)))
        }
        _ => Err(Fault::Class(name.to_owned())),
    }
}

/// The storage behind a persistent id: ('storage', class, key, location, elements[, view]).
pub(super) fn storage(values: &[Value], id: Id) -> Result<Storage, Fault> {
    let Value::Tuple(parts) = &values[id] else { return Err(Fault::Malformed) };
    let parts: Vec<&Value> = parts.iter().map(|&part| &values[part]).collect();
    let [Value::Text(tag), Value::Global(class), Value::Text(key), _, Value::Int(len), ref rest @ ..] = parts[..]
    else {
        return Err(Fault::Malformed);
    };
    let kind = storage_kind(class).filter(|_| tag == "storage").ok_or(Fault::Malformed)?;
    let len = u64::try_from(*len).map_err(|_| Fault::Malformed)?;
    let start = match rest {
        [] | [Value::None] => 0,
        [Value::Tuple(view)] if view.len() == 3 => integer(&values[view[1]])?,
        _ => return Err(Fault::Malformed),
    };
    Ok(Storage { key: key.clone(), kind, len, start })
}

/// All storages that a pickle names, some of them several times.
pub(super) fn storages(objects: &Objects) -> impl Iterator<Item = &Storage> {
    objects.values().iter().filter_map(|value| match value {
        Value::Object(Part::Storage(storage)) => Some(storage),
        _ => None,
    })
}

fn view(storage: Storage, offset: i64, shape: Vec<i64>, strides: Vec<i64>) -> Result<TensorView, Fault> {
    let offset = offset.checked_add(storage.start).ok_or(Fault::Malformed)?;
    let view = TensorView { storage, offset, shape, strides };
    if view.lies_within() {
        return Ok(view);
    }
    let TensorView { storage, offset, shape, strides } = view;
    Err(Fault::Other(format!(
        "it holds a tensor of shape {shape:?}, strides {strides:?} and offset {offset} that leaves its storage of {} numbers",
        storage.len
    )))
}

impl TensorView {
    fn lies_within(&self) -> bool {
        let (shape, strides) = (&self.shape, &self.strides);
        let negative = |values: &[i64]| values.iter().any(|&value| value < 0);
        if shape.len() != strides.len() || shape.len() > 64 || self.offset < 0 || negative(shape) || negative(strides) {
            return false;
        }
        if shape.contains(&0) {
            return self.offset as u64 <= self.storage.len;
        }
        let last = shape
            .iter()
            .zip(strides)
            .try_fold(self.offset, |last, (&size, &stride)| last.checked_add((size - 1).checked_mul(stride)?));
        let countable = shape.iter().try_fold(1i64, |count, &size| count.checked_mul(size));
        countable.is_some() && last.is_some_and(|last| (last as u64) < self.storage.len)
    }
}

fn integer(value: &Value) -> Result<i64, Fault> {
    match value {
        Value::Int(value) => i64::try_from(*value).map_err(|_| Fault::Malformed),
        _ => Err(Fault::Malformed),
    }
}

fn integers(values: &[Value], list: &Value) -> Result<Vec<i64>, Fault> {
    list.items().ok_or(Fault::Malformed)?.iter().map(|&item| integer(&values[item])).collect()
}

fn storage_kind(class: &str) -> Option<Kind> {
    let class = class.strip_prefix("torch.")?;
    let class = class.strip_prefix("cuda.").unwrap_or(class);
    Some(match class {
        "FloatStorage" => Kind::Float,
        "DoubleStorage" => Kind::Double,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" | "storage.UntypedStorage" | "UntypedStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        "ComplexFloatStorage" => Kind::ComplexFloat,
        "ComplexDoubleStorage" => Kind::ComplexDouble,
        _ => return None,
    })
}

fn dtype_kind(name: &str) -> Option<Kind> {
    Some(match name.strip_prefix("torch.")? {
        "float32" => Kind::Float,
        "float64" => Kind::Double,
        "float16" => Kind::Half,
        "bfloat16" => Kind::BFloat16,
        "int64" => Kind::Int64,
        "int32" => Kind::Int,
        "int16" => Kind::Int16,
        "int8" => Kind::Int8,
        "uint8" => Kind::Uint8,
        "bool" => Kind::Bool,
        "complex64" => Kind::ComplexFloat,
        "complex128" => Kind::ComplexDouble,
        _ => return None,
    })
}
