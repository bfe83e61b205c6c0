//! Why bytes are no pickle that can be read; who knows the file's name and kind words the error.

use std::io;

/// What is wrong with a pickle.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The bytes end before the pickle does.
    #[error("a pickle that ends too early")]
    CutOff,
    /// Instructions that take what is not there.
    #[error("a malformed pickle")]
    Malformed,
    /// An instruction that plain data do not need.
    #[error("the pickle instruction {0:#04x}")]
    Instruction(u8),
    #[error("a pickle of protocol {0}")]
    Protocol(u8),
    /// A whole number of so many bytes.
    #[error("a whole number of {0} bytes in a pickle")]
    Number(u64),
    /// More values than its kind of file has.
    #[error("a pickle of more than {0} values")]
    Large(usize),
    /// A class or function that is not known.
    #[error("a pickle that calls {0}")]
    Class(String),
    /// Something else that the caller found.
    #[error("{0}")]
    Other(String),
    #[error(transparent)]
    Read(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::CutOff,
            _ => Self::Read(error),
        }
    }
}
