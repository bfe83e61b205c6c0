//! Python pickles of plain data and byte arrays, as the Python version of CIFAR has them: a small stack machine that
//! knows lists, dicts, texts, numbers and NumPy's arrays of bytes, and calls nothing.
//! Opcodes are those of CPython's `pickletools`, protocols 2 to 4.

use std::collections::HashMap;

use super::{Fault, Parsed, byte_count};

/// More values than the largest known file of this kind has, by ten; a pickle that makes more is not one of them.
const MAX_VALUES: usize = 2_000_000;

type Id = u32;

/// A value of the pickle; containers hold positions in the table of all values.
#[derive(Debug)]
enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    Text(&'a [u8]),
    /// A list or a tuple.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Callable),
    /// What a call would have made.
    Object {
        callable: Callable,
        arguments: Id,
        state: Option<Id>,
    },
}

/// The only names that a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callable {
    /// `numpy.core.multiarray._reconstruct`
    Reconstruct,
    /// `numpy.ndarray`
    Array,
    /// `numpy.dtype`
    Dtype,
}

/// A pickle that was read.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle.
    pub(crate) fn read(bytes: &'a [u8]) -> Parsed<Self> {
        let mut machine = Machine { rest: bytes, ..Machine::default() };
        while let Some(opcode) = machine.rest.split_off_first() {
            if *opcode == b'.' {
                let root = machine.pop()?;
                return Ok(Self { nodes: machine.nodes, root });
            }
            machine.run(*opcode)?;
        }
        Err(Fault::new("a pickle that ends too early", "its end mark"))
    }

    /// The value of a key of the dict that the pickle is.
    pub(crate) fn get(&self, key: &str) -> Option<Value<'_, 'a>> {
        let Node::Dict(entries) = &self.nodes[self.root as usize] else { return None };
        let entry =
            entries.iter().find(|(k, _)| matches!(&self.nodes[*k as usize], Node::Text(t) if *t == key.as_bytes()));
        entry.map(|&(_, id)| Value { pickle: self, id })
    }
}

/// One value of a pickle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'p, 'a> {
    pickle: &'p Pickle<'a>,
    id: Id,
}

impl<'p, 'a> Value<'p, 'a> {
    fn node(self) -> &'p Node<'a> {
        &self.pickle.nodes[self.id as usize]
    }

    fn items(self) -> Option<impl Iterator<Item = Self>> {
        let Node::Sequence(items) = self.node() else { return None };
        Some(items.iter().map(move |&id| Self { id, ..self }))
    }

    fn integer(self) -> Option<i64> {
        let Node::Int(value) = self.node() else { return None };
        Some(*value)
    }

    fn text(self) -> Option<&'a [u8]> {
        let Node::Text(text) = self.node() else { return None };
        Some(text)
    }

    /// A list of whole numbers.
    pub(crate) fn integers(self) -> Option<Vec<i64>> {
        self.items()?.map(Self::integer).collect()
    }

    /// A list of texts.
    pub(crate) fn texts(self) -> Option<Vec<String>> {
        self.items()?.map(|item| Some(String::from_utf8_lossy(item.text()?).into_owned())).collect()
    }

    /// A row-major NumPy array of bytes: its shape and its values.
    pub(crate) fn byte_array(self) -> Option<(Vec<usize>, &'a [u8])> {
        let Node::Object { callable: Callable::Reconstruct, state: Some(state), .. } = self.node() else { return None };
        let state: Vec<Self> = Self { id: *state, ..self }.items()?.collect();
        let [_version, shape, dtype, fortran_order, values] = state[..] else { return None };
        let Node::Object { callable: Callable::Dtype, arguments, .. } = dtype.node() else { return None };
        let code = Self { id: *arguments, ..self }.items()?.next()?.text()?;
        let sizes = shape.integers()?.into_iter().map(|size| usize::try_from(size).ok());
        let shape: Vec<usize> = sizes.collect::<Option<_>>()?;
        let values = values.text()?;
        let fits = byte_count(&shape, 1) == Some(values.len());
        let plain = matches!(fortran_order.node(), Node::Bool(false)) && matches!(code, b"u1" | b"|u1");
        (fits && plain).then_some((shape, values))
    }
}

#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at which marks lie.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self, opcode: u8) -> Parsed<()> {
        match opcode {
            0x80 => self.take(1).map(drop),
            // A frame's length says nothing that the opcodes do not.
            0x95 => self.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                self.bounded(self.marks.len())
            }
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            b'K' => self.unsigned(1).and_then(|value| self.push(Node::Int(value as i64))),
            b'M' => self.unsigned(2).and_then(|value| self.push(Node::Int(value as i64))),
            b'J' => self.unsigned(4).and_then(|value| self.push(Node::Int(i64::from(value as i32)))),
            0x8a => self.long(),
            b'U' | b'C' | 0x8c => self.text(1),
            b'T' | b'X' | b'B' => self.text(4),
            0x8d | 0x8e => self.text(8),
            b']' | b')' => self.push(Node::Sequence(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            0x85..=0x87 => self.tuple(usize::from(opcode - 0x84)),
            b't' => self.above_mark().and_then(|items| self.push(Node::Sequence(items))),
            b'a' => self.pop().and_then(|item| self.append(vec![item])),
            b'e' => self.above_mark().and_then(|items| self.append(items)),
            b's' => self.pop_many(2).and_then(|pair| self.set_items(&pair)),
            b'u' => self.above_mark().and_then(|pairs| self.set_items(&pairs)),
            b'q' => self.unsigned(1).and_then(|key| self.remember(key as u32)),
            b'r' => self.unsigned(4).and_then(|key| self.remember(key as u32)),
            0x94 => self.remember(self.memo.len() as u32),
            b'h' => self.unsigned(1).and_then(|key| self.recall(key as u32)),
            b'j' => self.unsigned(4).and_then(|key| self.recall(key as u32)),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)
            }
            0x93 => self.stack_global(),
            b'R' => self.reduce(),
            b'b' => self.build(),
            _ => Err(Fault::new(format!("the pickle opcode {opcode:#04x}"), "plain data and arrays of bytes only")),
        }
    }

    fn push(&mut self, node: Node<'a>) -> Parsed<()> {
        self.stack.push(self.nodes.len() as Id);
        self.nodes.push(node);
        self.bounded(self.nodes.len())
    }

    fn bounded(&self, count: usize) -> Parsed<()> {
        match count <= MAX_VALUES {
            true => Ok(()),
            false => Err(Fault::new(format!("a pickle of more than {MAX_VALUES} values"), "a batch of images")),
        }
    }

    fn take(&mut self, count: usize) -> Parsed<&'a [u8]> {
        let taken = self.rest.split_off(..count);
        taken.ok_or_else(|| Fault::new("a pickle that ends too early", format!("{count} more bytes")))
    }

    fn unsigned(&mut self, bytes: usize) -> Parsed<u64> {
        let bytes = self.take(bytes)?;
        Ok(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// A signed number of up to eight bytes.
    fn long(&mut self) -> Parsed<()> {
        let length = self.unsigned(1)? as usize;
        if length > 8 {
            return Err(Fault::new(format!("a whole number of {length} bytes"), "at most 8"));
        }
        let unused = 64 - 8 * length as u32;
        let value = self.unsigned(length)?;
        let signed = value.checked_shl(unused).map_or(0, |shifted| shifted as i64 >> unused);
        self.push(Node::Int(signed))
    }

    fn text(&mut self, length_bytes: usize) -> Parsed<()> {
        let length = self.unsigned(length_bytes)?;
        let text = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        self.push(Node::Text(text))
    }

    fn line(&mut self) -> Parsed<&'a [u8]> {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.unwrap_or(self.rest.len()))?;
        self.take(1)?;
        Ok(line)
    }

    fn pop(&mut self) -> Parsed<Id> {
        Ok(self.pop_many(1)?[0])
    }

    /// The uppermost values, lowest first; values below a mark are out of reach.
    fn pop_many(&mut self, count: usize) -> Parsed<Vec<Id>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let at = self.stack.len().checked_sub(count).filter(|&at| at >= floor);
        at.map(|at| self.stack.split_off(at)).ok_or_else(empty_stack)
    }

    fn above_mark(&mut self) -> Parsed<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(empty_stack)?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self) -> Parsed<(Id, &mut Node<'a>)> {
        let id = *self.stack.last().ok_or_else(empty_stack)?;
        Ok((id, &mut self.nodes[id as usize]))
    }

    fn tuple(&mut self, count: usize) -> Parsed<()> {
        let items = self.pop_many(count)?;
        self.push(Node::Sequence(items))
    }

    fn append(&mut self, items: Vec<Id>) -> Parsed<()> {
        match self.top()?.1 {
            Node::Sequence(list) => list.extend(items),
            _ => return Err(misplaced("a list's values")),
        }
        Ok(())
    }

    fn set_items(&mut self, pairs: &[Id]) -> Parsed<()> {
        match self.top()?.1 {
            Node::Dict(entries) => entries.extend(pairs.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return Err(misplaced("a dict's values")),
        }
        Ok(())
    }

    fn remember(&mut self, key: u32) -> Parsed<()> {
        let id = self.top()?.0;
        self.memo.insert(key, id);
        self.bounded(self.memo.len())
    }

    fn recall(&mut self, key: u32) -> Parsed<()> {
        let id = self.memo.get(&key).ok_or_else(|| misplaced("a back reference"))?;
        self.stack.push(*id);
        self.bounded(self.stack.len())
    }

    fn global(&mut self, module: &[u8], name: &[u8]) -> Parsed<()> {
        let callable = match (module, name) {
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => Callable::Reconstruct,
            (b"numpy", b"ndarray") => Callable::Array,
            (b"numpy", b"dtype") => Callable::Dtype,
            _ => {
                let name = [module, b".", name].concat();
                let found = format!("a pickle that calls {}", String::from_utf8_lossy(&name));
                return Err(Fault::new(found, "plain data and arrays of bytes: anything else could run code"));
            }
        };
        self.push(Node::Global(callable))
    }

    fn stack_global(&mut self) -> Parsed<()> {
        let names = self.pop_many(2)?;
        let [Node::Text(module), Node::Text(name)] = [0, 1].map(|at| &self.nodes[names[at] as usize]) else {
            return Err(misplaced("a name"));
        };
        let (module, name) = (*module, *name);
        self.global(module, name)
    }

    fn reduce(&mut self) -> Parsed<()> {
        let call = self.pop_many(2)?;
        let Node::Global(callable) = self.nodes[call[0] as usize] else { return Err(misplaced("a call")) };
        self.push(Node::Object { callable, arguments: call[1], state: None })
    }

    fn build(&mut self) -> Parsed<()> {
        let id = self.pop()?;
        match self.top()?.1 {
            Node::Object { state, .. } => *state = Some(id),
            _ => return Err(misplaced("a state")),
        }
        Ok(())
    }
}

fn empty_stack() -> Fault {
    misplaced("an opcode that takes a value")
}

fn misplaced(what: &str) -> Fault {
    Fault::new(format!("{what} where there is none to take"), "an intact pickle")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_anything_else_is_refused_by_name() {
        let error = Pickle::read(b"\x80\x02cposix\nsystem\nq\x00X\x02\x00\x00\x00lsq\x01\x85q\x02Rq\x03.").unwrap_err();
        assert!(format!("{error:?}").contains("posix.system"));
    }

    #[test]
    fn numbers_lists_and_texts_are_read_through_the_memo() {
        // {'labels': [1, 258, -2, -1], 'again': (the same list)}
        let bytes =
            b"\x80\x02}q\x00(U\x06labelsq\x01]q\x02(K\x01M\x02\x01J\xfe\xff\xff\xff\x8a\x01\xffeU\x05againh\x02u.";
        let pickle = Pickle::read(bytes).unwrap();
        let numbers = [1, 258, -2, -1];
        assert_eq!(pickle.get("labels").unwrap().integers().unwrap(), numbers);
        assert_eq!(pickle.get("again").unwrap().integers().unwrap(), numbers);
        assert!(pickle.get("labels").unwrap().texts().is_none() && pickle.get("other").is_none());
        for cut in 0..bytes.len() {
            assert!(Pickle::read(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn cycles_and_marks_below_the_stack_do_no_harm() {
        // A list that holds itself.
        let pickle = Pickle::read(b"\x80\x02}(U\x01a]q\x00h\x00au.").unwrap();
        assert!(pickle.get("a").unwrap().integers().is_none());
        for bad in [
            &b"a."[..],
            b"(a.",
            b"N(0a.",
            b"t.",
            b"N(R.",
            b"h\x00.",
            b"\x8a\x09.",
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
        ] {
            assert!(Pickle::read(bad).is_err(), "{bad:?}");
        }
    }
}
