//! max(x, 0), where no batch norm before it takes it along, and min(max(x, 0), 6).

use tch::Tensor;

use crate::error::Result;

#[derive(Debug, PartialEq)]
pub(crate) struct Relu {
    /// True if nothing else needs the input: neither another layer nor the backward pass of the layer that made it.
    pub in_place: bool,
    /// Whether the output ends at 6.
    pub six: bool,
}

impl Relu {
    pub fn forward(&self, mut input: Tensor) -> Result<Tensor> {
        Ok(match (self.six, self.in_place) {
            (false, false) => input.f_relu()?,
            (false, true) => input.f_relu_()?,
            (true, false) => input.f_relu6()?,
            (true, true) => input.f_relu6_()?,
        })
    }
}
