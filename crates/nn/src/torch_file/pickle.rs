//! Python's pickle language, protocols 2 to 5: a stack machine that builds values. Classes and functions stay names; what
//! is built by "calling" one is decided by [`super::objects`]. Values refer to each other by index, so shared and cyclic
//! structures cost nothing, and memory is bounded by the length of the input.

use std::collections::HashMap;
use std::io::Read;

use super::Reason;
use super::objects::{self, Storage, TensorView};

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
    pub root: Id,
}

impl Objects {
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

/// Reads one pickle, up to its STOP.
pub(super) fn read(input: &mut dyn Read) -> Result<Objects, Reason> {
    let mut machine = Machine { input, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        if let Some(root) = machine.step()? {
            return Ok(Objects { values: machine.values, root });
        }
    }
}

struct Machine<'a> {
    input: &'a mut dyn Read,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Machine<'_> {
    /// Runs one instruction; answers the root at the end.
    fn step(&mut self) -> Result<Option<Id>, Reason> {
        let opcode = self.byte()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => self.protocol()?,
            0x95 => drop(self.bytes::<8>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let value = i32::from_le_bytes(self.bytes()?);
                self.push(Value::Int(value.into()));
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.bytes()?);
                self.push(Value::Int(value.into()));
            }
            0x8a => {
                let len = self.byte()?.into();
                self.long(len)?;
            }
            0x8b => {
                let len = self.length32()?;
                self.long(len)?;
            }
            b'G' => {
                self.bytes::<8>()?;
                self.push(Value::Float);
            }
            0x8c | b'X' | 0x8d => {
                let len = self.length(opcode, [0x8c, b'X', 0x8d])?;
                let text = self.text(len)?;
                self.push(Value::Text(text));
            }
            b'C' | b'B' | 0x8e | 0x96 => {
                let wide = if opcode == 0x96 { 0x96 } else { 0x8e };
                let len = self.length(opcode, [b'C', b'B', wide])?;
                self.string(len)?;
                self.push(Value::Bytes);
            }
            // Text of Python 2.
            b'U' | b'T' => {
                let len = self.length(opcode, [b'U', b'T', 0])?;
                let bytes = self.string(len)?;
                self.push(String::from_utf8(bytes).map_or(Value::Bytes, Value::Text));
            }
            b')' => self.push(Value::Tuple(vec![])),
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let start = self.stack.len().checked_sub(count).ok_or_else(malformed)?;
                let items = self.take_from(start)?;
                self.push(Value::Tuple(items));
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items));
            }
            b']' => self.push(Value::List(vec![])),
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b'}' => self.push(Value::Dict(vec![])),
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(vec![]));
                self.set_items(&items)?;
            }
            b's' => {
                let start = self.stack.len().checked_sub(2).ok_or_else(malformed)?;
                let items = self.take_from(start)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }
            // Sets hold no weights.
            0x8f => self.push(Value::Opaque),
            0x90 => drop(self.pop_mark()?),
            0x91 => {
                self.pop_mark()?;
                self.push(Value::Opaque);
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.values[module].clone(), self.values[name].clone()) {
                    (Value::Text(module), Value::Text(name)) => self.global(&module, &name)?,
                    _ => return Err(malformed()),
                }
            }
            b'R' | 0x81 => self.call(1)?,
            0x92 => self.call(2)?,
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                let storage = objects::storage(&self.values, id)?;
                self.push(Value::Storage(storage));
            }
            b'q' => {
                let index = self.byte()?.into();
                self.remember(index)?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.bytes()?).into();
                self.remember(index)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' => {
                let index = self.byte()?.into();
                self.recall(index)?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.bytes()?).into();
                self.recall(index)?;
            }
            other => {
                return Err(format!(
                    "its pickle has the instruction 0x{other:02x}, which state dicts do not use: it is damaged or not PyTorch's"
                ));
            }
        }
        Ok(None)
    }

    fn protocol(&mut self) -> Result<(), Reason> {
        match self.byte()? {
            2..=5 => Ok(()),
            other => Err(format!("its pickle has protocol {other}; expected 2 to 5")),
        }
    }

    /// A class or function; one that is not known is refused here, before anything can be asked of it.
    fn global(&mut self, module: &str, name: &str) -> Result<(), Reason> {
        let full = format!("{module}.{name}");
        if !objects::is_known(&full) {
            return Err(objects::refusal(&full));
        }
        self.push(Value::Global(full));
        Ok(())
    }

    /// REDUCE, NEWOBJ, NEWOBJ_EX: callable and arguments become what the callable would build.
    fn call(&mut self, operands: usize) -> Result<(), Reason> {
        let start = self.stack.len().checked_sub(operands + 1).ok_or_else(malformed)?;
        let operands = self.take_from(start)?;
        let (Value::Global(name), Value::Tuple(arguments)) = (&self.values[operands[0]], &self.values[operands[1]])
        else {
            return Err(malformed());
        };
        let built = objects::call(&self.values, name, arguments)?;
        self.push(built);
        Ok(())
    }

    /// Attributes of an object, which no weight has.
    fn build(&mut self) -> Result<(), Reason> {
        self.pop()?;
        let target = self.top()?;
        match self.values[target] {
            Value::Dict(_) | Value::Tensor(_) | Value::Opaque => Ok(()),
            _ => Err(malformed()),
        }
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), Reason> {
        let target = self.top()?;
        match &mut self.values[target] {
            Value::List(list) => list.extend(items),
            Value::Opaque => {}
            _ => return Err(malformed()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), Reason> {
        let target = self.top()?;
        match &mut self.values[target] {
            Value::Dict(dict) if items.len().is_multiple_of(2) => {
                dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            Value::Opaque => {}
            _ => return Err(malformed()),
        }
        Ok(())
    }

    fn remember(&mut self, index: u64) -> Result<(), Reason> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u64) -> Result<(), Reason> {
        let id = *self.memo.get(&index).ok_or_else(malformed)?;
        self.stack.push(id);
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn top(&self) -> Result<Id, Reason> {
        self.stack.last().copied().ok_or_else(malformed)
    }

    fn pop(&mut self) -> Result<Id, Reason> {
        self.stack.pop().ok_or_else(malformed)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, Reason> {
        let start = self.marks.pop().ok_or_else(malformed)?;
        self.take_from(start)
    }

    fn take_from(&mut self, start: usize) -> Result<Vec<Id>, Reason> {
        if start > self.stack.len() {
            return Err(malformed());
        }
        Ok(self.stack.split_off(start))
    }

    fn byte(&mut self) -> Result<u8, Reason> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(unreadable)?;
        Ok(bytes)
    }

    fn length32(&mut self) -> Result<u64, Reason> {
        Ok(u32::from_le_bytes(self.bytes()?).into())
    }

    /// Length of a text or of bytes: 1, 4 or 8 bytes by the opcode.
    fn length(&mut self, opcode: u8, [short, middle, _]: [u8; 3]) -> Result<u64, Reason> {
        match opcode {
            _ if opcode == short => Ok(self.byte()?.into()),
            _ if opcode == middle => self.length32(),
            _ => Ok(u64::from_le_bytes(self.bytes()?)),
        }
    }

    /// So many bytes; memory is taken as they arrive, whatever the file promises.
    fn string(&mut self, len: u64) -> Result<Vec<u8>, Reason> {
        let mut bytes = Vec::new();
        let read = Read::take(&mut *self.input, len).read_to_end(&mut bytes).map_err(unreadable)?;
        if read as u64 == len { Ok(bytes) } else { Err(cut_off()) }
    }

    fn text(&mut self, len: u64) -> Result<String, Reason> {
        // Lone surrogates, which Python writes on request, are no names of weights.
        Ok(String::from_utf8_lossy(&self.string(len)?).into_owned())
    }

    /// Up to the end of the line.
    fn line(&mut self) -> Result<String, Reason> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return String::from_utf8(line).map_err(|_| malformed()),
                byte if line.len() < 1000 => line.push(byte),
                _ => return Err(malformed()),
            }
        }
    }

    /// An integer of so many bytes, two's complement.
    fn long(&mut self, len: u64) -> Result<(), Reason> {
        if len > 16 {
            return Err(format!("its pickle has an integer of {len} bytes; expected at most 16"));
        }
        let bytes = self.string(len)?;
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut whole = [if negative { 0xff } else { 0 }; 16];
        whole[..bytes.len()].copy_from_slice(&bytes);
        self.push(Value::Int(i128::from_le_bytes(whole)));
        Ok(())
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
