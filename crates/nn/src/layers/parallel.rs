//! Branches that read the same input, and what becomes of their outputs: joined over channels (DenseNet), added, or mixed
//! at random (Shake-Shake).

use tch::{Tensor, no_grad};

use super::draws::Draws;
use super::{Context, Node, run};
use crate::error::{Error, Result};
use crate::site::Site;

#[derive(Debug, PartialEq)]
pub(crate) struct Parallel {
    /// At least two.
    pub branches: Vec<Vec<Node>>,
    pub merge: Merge,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Merge {
    /// One after the other, over channels or features.
    Concat,
    Sum,
    /// Gastaldi 2017: alpha x1 + (1 - alpha) x2 in the forward pass, as if it had been beta x1 + (1 - beta) x2 in the
    /// backward pass; alpha and beta from U(0, 1) for each image. Evaluation takes the mean.
    ShakeShake(Draws),
}

impl Merge {
    /// The shape of one image after the merge.
    pub fn shape(&self, site: &Site, shapes: &[Vec<i64>]) -> Result<Vec<i64>> {
        let (enough, expected) = match self {
            Self::Concat | Self::Sum => (shapes.len() >= 2, "at least two"),
            Self::ShakeShake(_) => (shapes.len() == 2, "two"),
        };
        if !enough {
            return Err(site.option("branches", format!("a list of {}", shapes.len()), expected));
        }
        // All of a shape but its channels, when those are joined.
        let (from, but) = if matches!(self, Self::Concat) { (1, ", but for channels") } else { (0, "") };
        let first = &shapes[0];
        for (index, shape) in shapes.iter().enumerate() {
            if shape.len() != first.len() || shape[from..] != first[from..] {
                let what = format!("the output of branch {index} of '{}' ({})", site.name, site.kind);
                return Err(Error::shape(what, shape, format!("{first:?} as branch 0 has it{but}")));
            }
        }
        let mut shape = first.clone();
        if from == 1 {
            shape[0] = shapes.iter().map(|shape| shape[0]).sum();
        }
        Ok(shape)
    }
}

impl Parallel {
    pub fn forward(&self, input: Tensor, context: &Context) -> Result<Tensor> {
        let outputs = self.branches.iter().map(|branch| run(branch, input.shallow_clone(), context));
        let outputs = outputs.collect::<Result<Vec<_>>>()?;
        match &self.merge {
            Merge::Concat => Ok(Tensor::f_cat(&outputs, 1)?),
            Merge::Sum => {
                let sum = outputs[0].f_add(&outputs[1])?;
                outputs[2..].iter().try_fold(sum, |mut sum, output| Ok(sum.f_add_(output)?))
            }
            Merge::ShakeShake(draws) => shake_shake(&outputs[0], &outputs[1], draws, context),
        }
    }
}

fn shake_shake(first: &Tensor, second: &Tensor, draws: &Draws, context: &Context) -> Result<Tensor> {
    let second = second.f_to_kind(first.kind())?;
    let Some(seed) = context.mask_seed else { return Ok(second.f_lerp(first, 0.5)?) };
    let [alpha, beta] = draws.uniforms(first, seed, context)?;
    let (alpha, beta) = (alpha.f_to_kind(first.kind())?, beta.f_to_kind(first.kind())?);
    let (rest, difference) = no_grad(|| -> Result<_> { Ok((alpha.f_sub(&beta)?, first.f_sub(&second)?)) })?;
    // Autograd sees the mix with beta alone.
    Ok(second.f_lerp_tensor(first, &beta)?.f_addcmul_(&difference, &rest)?)
}
