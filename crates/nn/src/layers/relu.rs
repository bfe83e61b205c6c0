//! max(x, 0), where no batch norm before it takes it along.

use tch::Tensor;

use crate::error::Result;

#[derive(Debug)]
pub(crate) struct Relu {
    /// True if nothing else needs the input: neither another layer nor the backward pass of the layer that made it.
    pub in_place: bool,
}

impl Relu {
    pub fn forward(&self, mut input: Tensor) -> Result<Tensor> {
        Ok(if self.in_place { input.f_relu_()? } else { input.f_relu()? })
    }
}
