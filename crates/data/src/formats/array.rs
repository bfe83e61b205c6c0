//! A typed n-dimensional array, row-major, as the readers of `.npy` files give it.

use super::{Fault, Parsed};

/// Number type of an array, little-endian once read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ElementType {
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F32,
    F64,
}

impl ElementType {
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// NumPy's name of the type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::I16 => "int16",
            Self::U16 => "uint16",
            Self::I32 => "int32",
            Self::U32 => "uint32",
            Self::I64 => "int64",
            Self::U64 => "uint64",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }
}

/// Values in row-major order; `bytes.len()` is the product of `shape` times the size of an element.
#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) element: ElementType,
    pub(crate) bytes: Vec<u8>,
}

impl Array {
    /// All values as f32. Whole numbers above 2^24 are rounded.
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        self.map(|value| value as f32, |value| value as f32)
    }

    /// All values as class numbers.
    pub(crate) fn to_labels(&self) -> Parsed<Vec<u32>> {
        let whole = |value: i128| u32::try_from(value).ok();
        let real =
            |value: f64| (value.fract() == 0.0 && (0.0..4_294_967_296.0).contains(&value)).then_some(value as u32);
        let labels = self.map(whole, real);
        let wrong = labels.iter().position(Option::is_none);
        match wrong {
            None => Ok(labels.into_iter().flatten().collect()),
            Some(at) => Err(Fault::new(
                format!("label {at} is {}", self.map(|v| v.to_string(), |v| v.to_string())[at]),
                "whole numbers from 0 on",
            )),
        }
    }

    fn map<T>(&self, whole: impl Fn(i128) -> T, real: impl Fn(f64) -> T) -> Vec<T> {
        macro_rules! each {
            ($type:ty, $convert:expr) => {{
                let size = size_of::<$type>();
                let read = |bytes: &[u8]| <$type>::from_le_bytes(bytes.try_into().unwrap_or_default());
                self.bytes.chunks_exact(size).map(|bytes| $convert(read(bytes).into())).collect()
            }};
        }
        match self.element {
            ElementType::Bool | ElementType::U8 => each!(u8, whole),
            ElementType::I8 => each!(i8, whole),
            ElementType::I16 => each!(i16, whole),
            ElementType::U16 => each!(u16, whole),
            ElementType::I32 => each!(i32, whole),
            ElementType::U32 => each!(u32, whole),
            ElementType::I64 => each!(i64, whole),
            ElementType::U64 => each!(u64, whole),
            ElementType::F32 => each!(f32, real),
            ElementType::F64 => each!(f64, real),
        }
    }
}
