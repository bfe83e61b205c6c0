//! activation(layers(x) + shortcut(x)), the block of residual networks (He 2016), where x may have gone through layers of
//! both: the first activation of a pre-activation block (He 2016b).

use flatmin_torch_ext::padded_subsample;
use tch::Tensor;

use super::{Context, Node, NormAct, run};
use crate::error::Result;
use crate::site::Site;

#[derive(Debug, PartialEq)]
pub(crate) struct Residual {
    pub shared: Vec<Node>,
    pub branch: Vec<Node>,
    /// The branch's last batch norm, which takes addition and ReLU along.
    pub tail: Option<NormAct>,
    pub shortcut: Shortcut,
    pub relu: bool,
    /// Whether the branch's output may be overwritten.
    pub in_place: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Shortcut {
    Identity,
    OptionA { stride: i64, pad_before: i64, pad_after: i64 },
    Layers(Vec<Node>),
}

impl Residual {
    /// From now on answers for the first token alone; false if its layers cannot.
    pub fn keep_class(&mut self) -> bool {
        let is_plain = self.shared.is_empty() && self.tail.is_none() && matches!(self.shortcut, Shortcut::Identity);
        let Some(place) = self.branch.iter().rposition(|node| !node.is_pointwise()) else { return false };
        let Node::SelfAttention(attention) = &mut self.branch[place] else { return false };
        if !is_plain || !attention.keep_class() {
            return false;
        }
        self.shortcut = Shortcut::Layers(vec![Node::ClassOnly]);
        true
    }

    pub fn forward(&self, input: Tensor, context: &Context) -> Result<Tensor> {
        let input = run(&self.shared, input, context)?;
        let mut branch = run(&self.branch, input.shallow_clone(), context)?;
        // An identity of float32 images, say, beside a branch of 16 bits.
        let shortcut = self.shortcut.forward(input, context)?.f_to_kind(branch.kind())?;
        if let Some(norm) = &self.tail {
            return norm.forward(&branch, Some(&shortcut), context);
        }
        let mut sum = if self.in_place { branch.f_add_(&shortcut)? } else { branch.f_add(&shortcut)? };
        Ok(if self.relu { sum.f_relu_()? } else { sum })
    }
}

impl Shortcut {
    /// Option A of He 2016, section 3.3, from the shape of its input to `output`: every `stride`-th row and column, zero
    /// channels on both sides, the odd one after.
    pub fn option_a(site: &Site, output: &[i64]) -> Result<Self> {
        let [channels, height, width] = site.image()?;
        let thinned = |size: i64, stride: i64| (size + stride - 1) / stride;
        let stride = match output {
            &[out_channels, ..] if output.len() == 3 && out_channels >= channels => {
                (1..=height.max(width)).find(|&stride| [thinned(height, stride), thinned(width, stride)] == output[1..])
            }
            _ => None,
        };
        let Some(stride) = stride else {
            let expected = format!(
                "the shape {output:?} of its layers, or one that a stride and more channels turn into it; \
                 use a shortcut of layers for other shapes"
            );
            return Err(site.misfit(expected));
        };
        let added = output[0] - channels;
        Ok(Self::OptionA { stride, pad_before: added / 2, pad_after: added - added / 2 })
    }

    fn forward(&self, input: Tensor, context: &Context) -> Result<Tensor> {
        match self {
            Self::Identity => Ok(input),
            Self::Layers(nodes) => run(nodes, input, context),
            &Self::OptionA { stride, pad_before, pad_after } if context.has_own_passes() => {
                Ok(padded_subsample(&input, stride, pad_before, pad_after)?)
            }
            &Self::OptionA { stride, pad_before, pad_after } => {
                let rows = input.f_slice(2, None, None, stride)?;
                let thinned = rows.f_slice(3, None, None, stride)?;
                Ok(thinned.f_constant_pad_nd([0, 0, 0, 0, pad_before, pad_after])?)
            }
        }
    }
}
