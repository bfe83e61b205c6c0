//! The stack machine. Memory is bounded by the length of the input, whatever lengths the input claims.

use std::collections::HashMap;
use std::io::Read;

use crate::value::{Id, Pickle, Value};
use crate::{Classes, Fault};

/// Longer names of modules and classes are mistakes.
const LONGEST_LINE: usize = 1000;

/// Reads one pickle, up to its STOP.
///
/// # Errors
/// What is wrong with it.
pub fn read<C: Classes>(input: &mut dyn Read) -> Result<Pickle<C::Object>, Fault> {
    let mut machine =
        Machine::<C> { input, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        if let Some(root) = machine.step()? {
            return Ok(Pickle::new(machine.values, root));
        }
    }
}

struct Machine<'a, C: Classes> {
    input: &'a mut dyn Read,
    values: Vec<Value<C::Object>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<C: Classes> Machine<'_, C> {
    /// Runs one instruction; answers the root at the end.
    fn step(&mut self) -> Result<Option<Id>, Fault> {
        let opcode = self.byte()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => self.protocol()?,
            0x95 => drop(self.bytes::<8>()?),
            b'(' => {
                self.bounded(self.marks.len())?;
                self.marks.push(self.stack.len());
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.put(top)?;
            }
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' => {
                let value = i32::from_le_bytes(self.bytes()?);
                self.push(Value::Int(value.into()))?;
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.bytes()?);
                self.push(Value::Int(value.into()))?;
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
                self.push(Value::Float)?;
            }
            0x8c | b'X' | 0x8d => {
                let len = self.length(opcode, [0x8c, b'X', 0x8d])?;
                let text = self.text(len)?;
                self.push(Value::Text(text))?;
            }
            b'C' | b'B' | 0x8e | 0x96 => {
                let wide = if opcode == 0x96 { 0x96 } else { 0x8e };
                let len = self.length(opcode, [b'C', b'B', wide])?;
                let bytes = self.string(len)?;
                self.push(Value::Bytes(bytes))?;
            }
            // Text of Python 2.
            b'U' | b'T' => {
                let len = self.length(opcode, [b'U', b'T', 0])?;
                let bytes = self.string(len)?;
                let text = String::from_utf8(bytes);
                self.push(text.map_or_else(|error| Value::Bytes(error.into_bytes()), Value::Text))?;
            }
            b')' => self.push(Value::Tuple(vec![]))?,
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let items = self.pop_many(count)?;
                self.push(Value::Tuple(items))?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items))?;
            }
            b']' => self.push(Value::List(vec![]))?,
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b'}' => self.push(Value::Dict(vec![]))?,
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(vec![]))?;
                self.set_items(&items)?;
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }
            0x8f => self.push(Value::Opaque)?,
            0x90 => drop(self.pop_mark()?),
            0x91 => {
                self.pop_mark()?;
                self.push(Value::Opaque)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name]) else {
                    return Err(Fault::Malformed);
                };
                let (module, name) = (module.clone(), name.clone());
                self.global(&module, &name)?;
            }
            b'R' | 0x81 => self.call(1)?,
            0x92 => self.call(2)?,
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                let object = C::persistent(&self.values, id)?;
                self.push(object)?;
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
            other => return Err(Fault::Instruction(other)),
        }
        Ok(None)
    }

    fn protocol(&mut self) -> Result<(), Fault> {
        match self.byte()? {
            2..=5 => Ok(()),
            other => Err(Fault::Protocol(other)),
        }
    }

    /// A class or function; one that is not known is refused here, before anything can be asked of it.
    fn global(&mut self, module: &str, name: &str) -> Result<(), Fault> {
        let full = format!("{module}.{name}");
        if !C::knows(&full) {
            return Err(Fault::Class(full));
        }
        self.push(Value::Global(full))
    }

    /// REDUCE, NEWOBJ, NEWOBJ_EX: callable and arguments become what the callable would build.
    fn call(&mut self, operands: usize) -> Result<(), Fault> {
        let operands = self.pop_many(operands + 1)?;
        let (Value::Global(name), Value::Tuple(arguments)) = (&self.values[operands[0]], &self.values[operands[1]])
        else {
            return Err(Fault::Malformed);
        };
        let built = C::call(&self.values, name, arguments)?;
        self.push(built)
    }

    /// The state of an object.
    fn build(&mut self) -> Result<(), Fault> {
        let state = self.pop()?;
        let target = self.top()?;
        C::build(&mut self.values[target], state)
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), Fault> {
        let target = self.top()?;
        match &mut self.values[target] {
            Value::List(list) => list.extend(items),
            Value::Opaque => {}
            _ => return Err(Fault::Malformed),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), Fault> {
        let target = self.top()?;
        match &mut self.values[target] {
            Value::Dict(dict) if items.len().is_multiple_of(2) => {
                dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            Value::Opaque => {}
            _ => return Err(Fault::Malformed),
        }
        Ok(())
    }

    fn remember(&mut self, index: u64) -> Result<(), Fault> {
        let top = self.top()?;
        self.memo.insert(index, top);
        self.bounded(self.memo.len())
    }

    fn recall(&mut self, index: u64) -> Result<(), Fault> {
        let id = *self.memo.get(&index).ok_or(Fault::Malformed)?;
        self.put(id)
    }

    fn push(&mut self, value: Value<C::Object>) -> Result<(), Fault> {
        self.bounded(self.values.len())?;
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    /// A value that is there already, once more.
    fn put(&mut self, id: Id) -> Result<(), Fault> {
        self.bounded(self.stack.len())?;
        self.stack.push(id);
        Ok(())
    }

    fn bounded(&self, count: usize) -> Result<(), Fault> {
        if count < C::MOST_VALUES { Ok(()) } else { Err(Fault::Large(C::MOST_VALUES)) }
    }

    fn top(&self) -> Result<Id, Fault> {
        self.stack.last().copied().ok_or(Fault::Malformed)
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        Ok(self.pop_many(1)?[0])
    }

    /// The uppermost values, lowest first; values below a mark are out of reach.
    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= floor).ok_or(Fault::Malformed)?;
        Ok(self.stack.split_off(start))
    }

    /// What lies above the uppermost mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>, Fault> {
        let start = self.marks.pop().ok_or(Fault::Malformed)?;
        Ok(self.stack.split_off(start))
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn length32(&mut self) -> Result<u64, Fault> {
        Ok(u32::from_le_bytes(self.bytes()?).into())
    }

    /// Length of a text or of bytes: 1, 4 or 8 bytes by the opcode.
    fn length(&mut self, opcode: u8, [short, middle, _]: [u8; 3]) -> Result<u64, Fault> {
        match opcode {
            _ if opcode == short => Ok(self.byte()?.into()),
            _ if opcode == middle => self.length32(),
            _ => Ok(u64::from_le_bytes(self.bytes()?)),
        }
    }

    /// So many bytes; memory is taken as they arrive, whatever the file promises.
    fn string(&mut self, len: u64) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        let read = Read::take(&mut *self.input, len).read_to_end(&mut bytes)?;
        if read as u64 == len { Ok(bytes) } else { Err(Fault::CutOff) }
    }

    fn text(&mut self, len: u64) -> Result<String, Fault> {
        // Python writes lone surrogates on request; they name nothing.
        Ok(String::from_utf8_lossy(&self.string(len)?).into_owned())
    }

    /// Up to the end of the line.
    fn line(&mut self) -> Result<String, Fault> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return String::from_utf8(line).map_err(|_| Fault::Malformed),
                byte if line.len() < LONGEST_LINE => line.push(byte),
                _ => return Err(Fault::Malformed),
            }
        }
    }

    /// An integer of so many bytes, two's complement.
    fn long(&mut self, len: u64) -> Result<(), Fault> {
        if len > 16 {
            return Err(Fault::Number(len));
        }
        let bytes = self.string(len)?;
        let negative = bytes.last().is_some_and(|&last| last >= 0x80);
        let mut whole = [if negative { 0xff } else { 0 }; 16];
        whole[..bytes.len()].copy_from_slice(&bytes);
        self.push(Value::Int(i128::from_le_bytes(whole)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plain data, and a class `a.b` whose calls count their arguments.
    struct Plain;

    impl Classes for Plain {
        type Object = (usize, Option<Id>);

        const MOST_VALUES: usize = 100;

        fn knows(name: &str) -> bool {
            name == "a.b"
        }

        fn call(_: &[Value<Self::Object>], _: &str, arguments: &[Id]) -> Result<Value<Self::Object>, Fault> {
            Ok(Value::Object((arguments.len(), None)))
        }

        fn build(target: &mut Value<Self::Object>, state: Id) -> Result<(), Fault> {
            let Value::Object((_, place)) = target else { return Err(Fault::Malformed) };
            *place = Some(state);
            Ok(())
        }
    }

    fn open(mut bytes: &[u8]) -> Result<Pickle<(usize, Option<Id>)>, Fault> {
        read::<Plain>(&mut bytes)
    }

    #[test]
    fn plain_data_are_read() {
        // {'a': (None, True, -2, 1.0), b'b': [300, 'x']}
        let bytes = b"\x80\x04}(\x8c\x01a(N\x88J\xfe\xff\xff\xffG?\xf0\0\0\0\0\0\0tC\x01b](M\x2c\x01\x8c\x01xeu.";
        let pickle = open(bytes).unwrap();
        let items = |name| pickle.entry(pickle.root(), name).unwrap().items().unwrap();
        let a: Vec<_> = items("a").iter().map(|&id| pickle.get(id).clone()).collect();
        assert_eq!(a, [Value::None, Value::Bool(true), Value::Int(-2), Value::Float]);
        assert_eq!(pickle.get(items("b")[0]), &Value::Int(300));
        assert_eq!(pickle.get(items("b")[1]).bytes(), Some(&b"x"[..]));
        assert!(pickle.entries(pickle.root()).map(|(key, _)| key).eq(["a"]));
        for cut in 0..bytes.len() {
            assert!(matches!(open(&bytes[..cut]), Err(Fault::CutOff)), "{cut}");
        }
    }

    #[test]
    fn calls_build_what_the_caller_says_and_all_others_are_refused() {
        let pickle = open(b"\x80\x02ca\nb\nK\x01K\x02\x86R}b.").unwrap();
        assert!(matches!(pickle.root(), Value::Object((2, Some(_)))));
        for bad in [&b"cos\nsystem\n."[..], b"\x80\x04\x8c\x02os\x8c\x06system\x93."] {
            let Err(Fault::Class(name)) = open(bad) else { panic!("{bad:?}") };
            assert_eq!(name, "os.system");
        }
        assert!(matches!(open(b"NQ."), Err(Fault::Malformed)));
    }

    #[test]
    fn whole_numbers_have_at_most_16_bytes() {
        for head in [&b"\x8a\x10"[..], b"\x8b\x10\0\0\0"] {
            let least = [head, &[0; 15], b"\x80."].concat();
            assert_eq!(open(&least).unwrap().root(), &Value::Int(i128::MIN));
        }
        for head in [&b"\x8a\x11"[..], b"\x8b\x11\0\0\0"] {
            let longer = [head, &[0; 17], b"."].concat();
            assert!(matches!(open(&longer), Err(Fault::Number(17))));
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_fault() {
        for bad in [&b"."[..], b"t.", b"(N0.0.", b"N(0.", b"h\0.", b"Na.", b"]Nu.", b"}(Nu.", b"NNR.", b"N}b."] {
            assert!(matches!(open(bad), Err(Fault::Malformed)), "{bad:?}");
        }
        assert!(matches!(open(b"\x80\x09"), Err(Fault::Protocol(9))));
        assert!(matches!(open(b"\xff"), Err(Fault::Instruction(255))));
        assert!(matches!(open(&[b'N'; 200]), Err(Fault::Large(100))));
        assert!(matches!(open(&[b'('; 200]), Err(Fault::Large(100))));
        let again = [&b"N"[..], &[b'2'; 200]].concat();
        assert!(matches!(open(&again), Err(Fault::Large(100))));
    }
}
