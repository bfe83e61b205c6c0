//! Freezing parts of a model by the names of its state dict: parameters get no gradient, so an optimizer neither perturbs
//! nor updates them, and batch norms use their running statistics and leave them alone.

use wildmatch::WildMatch;

use crate::error::{Error, Result};
use crate::load_options::sample;
use crate::model::Model;
use crate::state_dict::Slot;

impl Model {
    /// Freezes what the patterns name, in which `*` stands for any characters and `?` for one: `layer1.*` a part with its
    /// batch norms, `*.running_*` all statistics but no parameter. What was frozen before stays so.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for a pattern that fits no name, or if no parameter were left to train.
    pub fn freeze<P: AsRef<str>>(&mut self, patterns: &[P]) -> Result<()> {
        let named = self.named(patterns)?;
        let frozen = |position: usize| named.contains(&Slot::Parameter(position));
        if (0..self.parameters().segments().len()).all(|at| frozen(at) || !self.parameters().is_trainable(at)) {
            let found =
                format!("{:?}, which is every parameter", patterns.iter().map(AsRef::as_ref).collect::<Vec<_>>());
            return Err(Error::option("freeze", found, "patterns that leave something to train"));
        }
        self.set_frozen(&named, true)
    }

    /// Trains again what the patterns name.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for a pattern that fits no name.
    pub fn unfreeze<P: AsRef<str>>(&mut self, patterns: &[P]) -> Result<()> {
        let named = self.named(patterns)?;
        self.set_frozen(&named, false)
    }

    /// The names of the state dict that are frozen, in its order.
    pub fn frozen(&self) -> Vec<String> {
        let frozen = |slot| match slot {
            Slot::Parameter(position) => !self.parameters().is_trainable(position),
            Slot::Mean(norm) | Slot::Variance(norm) | Slot::BatchesTracked(norm) => self.buffers().is_frozen(norm),
        };
        self.slots().into_iter().filter(|&(_, slot)| frozen(slot)).map(|(name, _)| name).collect()
    }

    fn named<P: AsRef<str>>(&self, patterns: &[P]) -> Result<Vec<Slot>> {
        let slots = self.slots();
        let mut named = Vec::new();
        for pattern in patterns.iter().map(AsRef::as_ref) {
            let matcher = WildMatch::new(pattern);
            let before = named.len();
            named.extend(slots.iter().filter(|(name, _)| matcher.matches(name)).map(|&(_, slot)| slot));
            if named.len() == before {
                let names: Vec<&str> = slots.iter().map(|(name, _)| name.as_str()).collect();
                let expected = format!("a name or pattern that fits, of names such as {}", sample(&names));
                return Err(Error::option("freeze", format!("'{pattern}', which fits no name"), expected));
            }
        }
        Ok(named)
    }

    fn set_frozen(&mut self, slots: &[Slot], frozen: bool) -> Result<()> {
        for &slot in slots {
            match slot {
                Slot::Parameter(position) => self.parameters_mut().set_trainable(position, !frozen)?,
                Slot::Mean(norm) | Slot::Variance(norm) | Slot::BatchesTracked(norm) => {
                    self.buffers_mut().set_frozen(norm, frozen);
                }
            }
        }
        Ok(())
    }
}
