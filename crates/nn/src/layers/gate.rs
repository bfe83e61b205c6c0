//! x * layers(x): a branch that says how much of each channel passes (squeeze and excitation, Hu 2018).

use tch::Tensor;

use super::{Context, Node, run};
use crate::error::Result;

#[derive(Debug, PartialEq)]
pub(crate) struct Gate {
    pub branch: Vec<Node>,
}

impl Gate {
    pub fn forward(&self, input: &Tensor, context: &Context) -> Result<Tensor> {
        // The mean of an image of 16 bits is float32.
        let gate = run(&self.branch, input.shallow_clone(), context)?.f_to_kind(input.kind())?;
        Ok(input.f_mul(&gate)?)
    }
}
