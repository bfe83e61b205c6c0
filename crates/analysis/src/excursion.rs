//! A model on its way through other weights and statistics than its own. Whatever happens, it is as it was when the
//! excursion is over, bit for bit.

use flatmin_nn::Model;
use tch::{Tensor, no_grad};

use crate::error::{Error, Result};

pub(crate) struct Excursion<'a> {
    model: &'a mut Model,
    fused: bool,
    /// The committed running statistics as they were, once they are changed.
    statistics: Option<Tensor>,
}

impl<'a> Excursion<'a> {
    /// Also sees to it that passes have second derivatives.
    ///
    /// # Errors
    /// [`Error::Perturbed`] between an ascent and its descent.
    pub fn new(model: &'a mut Model) -> Result<Self> {
        if model.parameters().is_perturbed()? {
            return Err(Error::Perturbed);
        }
        let fused = model.is_fused();
        model.set_fused(false);
        Ok(Self { model, fused, statistics: None })
    }

    pub fn model(&self) -> &Model {
        self.model
    }

    /// Lets the network read w + displacement, an arena.
    pub fn go_to(&self, displacement: &Tensor) -> Result<()> {
        let parameters = self.model.parameters();
        Ok(parameters.show(&no_grad(|| parameters.master().f_add(displacement))?)?)
    }

    /// Lets the network normalise with other running statistics, laid out as its own.
    pub fn set_statistics(&mut self, statistics: &Tensor) -> Result<()> {
        let mut arena = self.model.buffers().arena().shallow_clone();
        if self.statistics.is_none() {
            self.statistics = Some(arena.f_alias_copy()?);
        }
        no_grad(|| arena.f_copy_(statistics))?;
        Ok(())
    }
}

impl Drop for Excursion<'_> {
    fn drop(&mut self) {
        self.model.set_fused(self.fused);
        // Copies within memory that both sides have already.
        let _ = self.model.parameters_mut().sync_working();
        if let Some(statistics) = self.statistics.take() {
            let _ = no_grad(|| self.model.buffers().arena().shallow_clone().f_copy_(&statistics));
        }
    }
}
