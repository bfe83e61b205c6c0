//! Tables of gradients in device memory, and linear combinations of them: see [`crate::cpu::Blend`].

use tch::{Kind, Tensor};

use super::cut::Cut;
use super::ffi;
use super::place::Place;
use crate::error::{Error, Result};

/// Where the gradient of each segment lies. Its memory stays in place, so that a captured step can be given it.
pub struct Table {
    words: Tensor,
    segments: usize,
}

impl Table {
    /// Without any gradient.
    pub fn new(place: &Place, cut: &Cut) -> Result<Self> {
        let segments = cut.segments().len();
        Ok(Self { words: place.zeros(&[2 * segments as i64], Kind::Int64)?, segments })
    }

    /// Every segment of an arena.
    pub fn of_arena(place: &Place, cut: &Cut, arena: &Tensor) -> Result<Self> {
        let table = Self::new(place, cut)?;
        table.set_working(place, cut, arena, None)?;
        Ok(table)
    }

    /// The gradients of a backward pass, in the order of the segments, each of the master's dtype or bfloat16. They must
    /// outlive the kernels that read the table.
    ///
    /// # Errors
    /// [`Error::Argument`] for another number of gradients, another dtype or device.
    pub fn set(&self, place: &Place, cut: &Cut, master: Kind, gradients: &[Option<Tensor>]) -> Result<()> {
        if gradients.len() != self.segments {
            return Err(Error::Argument {
                what: "gradients",
                found: format!("{} of them", gradients.len()),
                expected: format!("{}, one a segment", self.segments),
            });
        }
        let entry = |(gradient, segment): (&Option<Tensor>, &crate::cpu::SegmentLayout)| match gradient {
            None => Ok(ffi::Source { data: std::ptr::null(), kind: ffi::ABSENT }),
            Some(gradient) => {
                let half = gradient.kind() == Kind::BFloat16;
                let kind = if half { Kind::BFloat16 } else { master };
                let data = place.address("a gradient", gradient, kind, segment.len)?;
                Ok(ffi::Source { data, kind: if half { ffi::HALF } else { ffi::FULL } })
            }
        };
        let entries: Vec<ffi::Source> = gradients.iter().zip(cut.segments()).map(entry).collect::<Result<_>>()?;
        self.write(place, &entries)
    }

    /// Every segment of the weights that the network reads: `full`, or `half` for those of 16 bits if it is given.
    pub fn set_working(&self, place: &Place, cut: &Cut, full: &Tensor, half: Option<&Tensor>) -> Result<()> {
        let entry = |segment: &crate::cpu::SegmentLayout| {
            let (arena, kind) = match (segment.half, half) {
                (true, Some(half)) => (half, ffi::HALF),
                _ => (full, ffi::FULL),
            };
            let start = place.address("working weights", arena, arena.kind(), arena.numel())?.cast::<u8>();
            let data = start.wrapping_add(segment.offset * arena.kind().elt_size_in_bytes());
            Ok(ffi::Source { data: data.cast(), kind })
        };
        let entries: Vec<ffi::Source> = cut.segments().iter().map(entry).collect::<Result<_>>()?;
        self.write(place, &entries)
    }

    fn write(&self, place: &Place, entries: &[ffi::Source]) -> Result<()> {
        let (table, count) = (self.words.data_ptr().cast(), entries.len() as i64);
        place.check((place.kernels.write_table)(place.stream()?, table, count, entries.as_ptr()))
    }
}

/// `sum of coefficient * table`, of four tables at most. A segment is present where the first table has it.
#[derive(Clone)]
pub struct Blend<'a> {
    terms: Vec<(&'a Table, f64, Option<&'a Tensor>)>,
}

impl<'a> Blend<'a> {
    /// One table; `by_group` (float64, one number a parameter group, on the device) multiplies the coefficient.
    pub fn of(table: &'a Table, coefficient: f64, by_group: Option<&'a Tensor>) -> Self {
        Self { terms: vec![(table, coefficient, by_group)] }
    }

    /// Adds a table.
    pub fn plus(mut self, coefficient: f64, by_group: Option<&'a Tensor>, table: &'a Table) -> Self {
        self.terms.push((table, coefficient, by_group));
        self
    }

    pub(super) fn raw(&self) -> Result<ffi::Blend> {
        if self.terms.len() > ffi::TERMS {
            return Err(Error::Argument {
                what: "a combination of gradients",
                found: format!("{} terms", self.terms.len()),
                expected: format!("at most {}", ffi::TERMS),
            });
        }
        let none = ffi::Term { table: std::ptr::null(), by_group: std::ptr::null(), coefficient: 0.0 };
        let mut terms = [none; ffi::TERMS];
        for (raw, (table, coefficient, by_group)) in terms.iter_mut().zip(&self.terms) {
            *raw = ffi::Term {
                table: table.words.data_ptr().cast(),
                by_group: by_group.map_or(std::ptr::null(), |factors| factors.data_ptr().cast()),
                coefficient: *coefficient,
            };
        }
        Ok(ffi::Blend { terms, count: self.terms.len() as i32 })
    }
}
