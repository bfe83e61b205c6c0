//! Python pickles of plain data and arrays of bytes, as the Python version of CIFAR has them. All other classes are refused.

use std::io::Read;

use flatmin_pickle::{Classes, Id, read};

use super::{Fault, Parsed, byte_count};

/// A dict of numbers, texts and NumPy's arrays of bytes.
#[derive(Debug)]
pub(crate) struct Pickle(flatmin_pickle::Pickle<Call>);

type Value = flatmin_pickle::Value<Call>;

/// What a call would have made.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    class: Class,
    arguments: Vec<Id>,
    state: Option<Id>,
}

/// The only names that a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Reconstruct,
    Array,
    Dtype,
}

impl Class {
    fn of(name: &str) -> Option<Self> {
        match name {
            "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct" => Some(Self::Reconstruct),
            "numpy.ndarray" => Some(Self::Array),
            "numpy.dtype" => Some(Self::Dtype),
            _ => None,
        }
    }
}

/// Plain data and arrays of NumPy.
struct Numpy;

impl Classes for Numpy {
    type Object = Call;

    /// More than the largest known file of this kind has, by ten.
    const MOST_VALUES: usize = 2_000_000;

    fn knows(name: &str) -> bool {
        Class::of(name).is_some()
    }

    fn call(_: &[Value], name: &str, arguments: &[Id]) -> Result<Value, flatmin_pickle::Fault> {
        let class = Class::of(name).ok_or(flatmin_pickle::Fault::Malformed)?;
        Ok(Value::Object(Call { class, arguments: arguments.to_vec(), state: None }))
    }

    fn build(target: &mut Value, state: Id) -> Result<(), flatmin_pickle::Fault> {
        let Value::Object(call) = target else { return Err(flatmin_pickle::Fault::Malformed) };
        call.state = Some(state);
        Ok(())
    }
}

impl From<flatmin_pickle::Fault> for Fault {
    fn from(fault: flatmin_pickle::Fault) -> Self {
        let expected = match &fault {
            flatmin_pickle::Fault::Read(_) => "a readable file",
            flatmin_pickle::Fault::Class(_) => "plain data and arrays of bytes: anything else could run code",
            flatmin_pickle::Fault::Large(_) => "a batch of images",
            _ => "an intact pickle of plain data and arrays of bytes",
        };
        match fault {
            flatmin_pickle::Fault::Read(error) => Self::Read(error),
            other => Self::new(other.to_string(), expected),
        }
    }
}

impl Pickle {
    /// Reads a pickle.
    pub(crate) fn read(input: &mut dyn Read) -> Parsed<Self> {
        Ok(Self(read::<Numpy>(input)?))
    }

    /// The list of whole numbers under a key.
    pub(crate) fn integers(&self, key: &str) -> Option<Vec<i64>> {
        self.integers_of(self.get(key)?)
    }

    /// The list of texts under a key.
    pub(crate) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let text = |&id: &Id| Some(String::from_utf8_lossy(self.0.get(id).bytes()?).into_owned());
        self.get(key)?.items()?.iter().map(text).collect()
    }

    /// The row-major array of bytes under a key: its shape and its values.
    pub(crate) fn byte_array(&self, key: &str) -> Option<(Vec<usize>, &[u8])> {
        let Value::Object(Call { class: Class::Reconstruct, state: Some(state), .. }) = self.get(key)? else {
            return None;
        };
        let [_version, shape, dtype, fortran_order, values] = *self.0.get(*state).items()? else { return None };
        let Value::Object(Call { class: Class::Dtype, arguments, .. }) = self.0.get(dtype) else { return None };
        let code = self.0.get(*arguments.first()?).bytes()?;
        let sizes = self.integers_of(self.0.get(shape))?.into_iter().map(|size| usize::try_from(size).ok());
        let shape: Vec<usize> = sizes.collect::<Option<_>>()?;
        let values = self.0.get(values).bytes()?;
        let fits = byte_count(&shape, 1) == Some(values.len());
        let plain = matches!(self.0.get(fortran_order), Value::Bool(false)) && matches!(code, b"u1" | b"|u1");
        (fits && plain).then_some((shape, values))
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.0.entry(self.0.root(), key)
    }

    fn integers_of(&self, list: &Value) -> Option<Vec<i64>> {
        let integer = |&id: &Id| match self.0.get(id) {
            Value::Int(value) => i64::try_from(*value).ok(),
            _ => None,
        };
        list.items()?.iter().map(integer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(mut bytes: &[u8]) -> Parsed<Pickle> {
        Pickle::read(&mut bytes)
    }

    #[test]
    fn a_call_of_anything_else_is_refused_by_name() {
        let error = open(b"\x80\x02cposix\nsystem\nq\x00X\x02\x00\x00\x00lsq\x01\x85q\x02Rq\x03.").unwrap_err();
        assert!(format!("{error:?}").contains("posix.system"));
    }

    #[test]
    fn numbers_lists_and_texts_are_read_through_the_memo() {
        // {'labels': [1, 258, -2, -1], 'again': (the same list)}
        let bytes =
            b"\x80\x02}q\x00(U\x06labelsq\x01]q\x02(K\x01M\x02\x01J\xfe\xff\xff\xff\x8a\x01\xffeU\x05againh\x02u.";
        let pickle = open(bytes).unwrap();
        let numbers = [1, 258, -2, -1];
        assert_eq!(pickle.integers("labels").unwrap(), numbers);
        assert_eq!(pickle.integers("again").unwrap(), numbers);
        assert!(pickle.texts("labels").is_none() && pickle.integers("other").is_none());
        for cut in 0..bytes.len() {
            assert!(open(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn cycles_and_marks_below_the_stack_do_no_harm() {
        // A list that holds itself.
        let pickle = open(b"\x80\x02}(U\x01a]q\x00h\x00au.").unwrap();
        assert!(pickle.integers("a").is_none());
        for bad in [
            &b"a."[..],
            b"(a.",
            b"N(0a.",
            b"t.",
            b"N(R.",
            b"h\x00.",
            &[&b"\x8a\x11"[..], &[0; 17], b"."].concat(),
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
        ] {
            assert!(open(bad).is_err(), "{bad:?}");
        }
    }
}
