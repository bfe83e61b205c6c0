//! Python's pickle language, protocols 2 to 5, as far as plain data goes: a stack machine that builds values and calls nothing.
//! Classes and functions stay names. Which of them may occur, and what "calling" one stands for, is the caller's to say
//! ([`Classes`]); everything else is refused by its name. Opcodes are those of CPython's `pickletools`.

mod fault;
mod machine;
mod value;

pub use fault::Fault;
pub use machine::read;
pub use value::{Id, Pickle, Value};

/// What a file may hold beside plain data.
pub trait Classes {
    /// What calls and persistent ids build.
    type Object;

    /// More values than any honest file has; a pickle that makes more is refused.
    const MOST_VALUES: usize;

    /// Whether the class or function of this full name may occur. Asked before anything is built of it.
    fn knows(name: &str) -> bool;

    /// What the call of a class or function stands for; REDUCE, NEWOBJ and NEWOBJ_EX alike.
    ///
    /// # Errors
    /// [`Fault::Malformed`] for arguments that make no sense.
    fn call(values: &[Value<Self::Object>], name: &str, arguments: &[Id]) -> Result<Value<Self::Object>, Fault>;

    /// An object is given its state (BUILD).
    ///
    /// # Errors
    /// [`Fault::Malformed`] for what has none.
    fn build(target: &mut Value<Self::Object>, state: Id) -> Result<(), Fault>;

    /// What a persistent id names.
    ///
    /// # Errors
    /// Always, unless the format has persistent ids.
    fn persistent(_values: &[Value<Self::Object>], _id: Id) -> Result<Value<Self::Object>, Fault> {
        Err(Fault::Malformed)
    }
}
