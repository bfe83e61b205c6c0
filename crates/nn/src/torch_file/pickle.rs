//! The pickles in PyTorch's files: what they may hold, and how their faults are worded.

use std::io::Read;

use flatmin_pickle::{Classes, Fault, Id, Pickle};

use super::Reason;
use super::objects::{self, Part};

pub(super) type Value = flatmin_pickle::Value<Part>;
pub(super) type Objects = Pickle<Part>;

/// State dicts and what often lies beside them.
struct Torch;

impl Classes for Torch {
    type Object = Part;

    /// Ten times those of a network of a hundred thousand tensors.
    const MOST_VALUES: usize = 1 << 24;

    fn knows(name: &str) -> bool {
        objects::is_known(name)
    }

    fn call(values: &[Value], name: &str, arguments: &[Id]) -> Result<Value, Fault> {
        objects::call(values, name, arguments)
    }

    /// Attributes of an object, which no weight has.
    fn build(target: &mut Value, _state: Id) -> Result<(), Fault> {
        match target {
            Value::Dict(_) | Value::Object(Part::Tensor(_)) | Value::Opaque => Ok(()),
            _ => Err(Fault::Malformed),
        }
    }

    fn persistent(values: &[Value], id: Id) -> Result<Value, Fault> {
        objects::storage(values, id).map(|storage| Value::Object(Part::Storage(storage)))
    }
}

/// Reads one pickle, up to its STOP.
pub(super) fn read(input: &mut dyn Read) -> Result<Objects, Reason> {
    flatmin_pickle::read::<Torch>(input).map_err(reason)
}

fn reason(fault: Fault) -> Reason {
    match fault {
        Fault::CutOff => cut_off(),
        Fault::Malformed => malformed(),
        Fault::Instruction(opcode) => {
            format!(
                "its pickle has the instruction 0x{opcode:02x}, which state dicts do not use: it is damaged or not PyTorch's"
            )
        }
        Fault::Protocol(found) => format!("its pickle has protocol {found}; expected 2 to 5"),
        Fault::Number(bytes) => format!("its pickle has an integer of {bytes} bytes; expected at most 16"),
        Fault::Large(most) => format!("its pickle has more than {most} values, which no state dict has"),
        Fault::Class(name) => objects::refusal(&name),
        Fault::Other(reason) => reason,
        Fault::Read(error) => unreadable(error),
    }
}

pub(super) fn malformed() -> Reason {
    "its pickle is malformed: the file is damaged, or not PyTorch's".into()
}

pub(super) fn cut_off() -> Reason {
    "it ends in the middle: the file is cut off".into()
}

pub(super) fn unreadable(error: std::io::Error) -> Reason {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => cut_off(),
        _ => format!("it cannot be read ({error})"),
    }
}
