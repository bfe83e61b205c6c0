//! Multi-head self-attention (Vaswani 2017, section 3.2): softmax(q k^T / sqrt(d)) v in each head of d features, between
//! two linear maps.

use tch::{Kind, Tensor};

use super::tokens::{class_only, shape_of};
use super::{Context, Dropout, Linear, Pass};
use crate::compile::Builder;
use crate::dtype::is_half;
use crate::error::Result;
use crate::site::Site;
use crate::spec;

/// Up to here the weights of a head's attention, tokens x tokens, are no larger than what flows through the other layers.
const FEW_TOKENS: i64 = 256;

#[derive(Debug, PartialEq)]
pub(crate) struct SelfAttention {
    /// To queries, keys and values, one after the other.
    pub qkv: Linear,
    pub proj: Linear,
    pub heads: i64,
    dropout: Dropout,
    /// Whether it answers for the first token alone, since nobody reads the others.
    pub class_only: bool,
}

impl SelfAttention {
    pub fn compile(spec: &spec::SelfAttention, site: &Site, builder: &mut Builder) -> Result<Self> {
        let &spec::SelfAttention { num_heads: heads, bias, dropout, init, .. } = spec;
        let [tokens, features] = site.tokens()?;
        site.check_size("numHeads", heads, 1)?;
        if features % heads != 0 {
            return Err(site.misfit(format!("features divisible by numHeads, which is {heads}")));
        }
        let mut linear = |name: &str, out_features: i64| -> Result<Linear> {
            let site = Site { name: format!("{}.{name}", site.name), kind: site.kind, input: site.input.clone() };
            let spec = spec::Linear { name: None, out_features, bias, init };
            Ok(Linear::compile(&spec, &site, builder)?.0)
        };
        let (qkv, proj) = (linear("qkv", 3 * features)?, linear("proj", features)?);
        builder.count_macs(2 * tokens * tokens * features);
        builder.count_kept(4 * tokens * features + tokens * heads);
        let dropout = Dropout::of("dropout", dropout, site, builder)?;
        Ok(Self { qkv, proj, heads, dropout, class_only: false })
    }

    /// From now on answers for the first token alone, all others being attended to as before; false if it cannot.
    pub fn keep_class(&mut self) -> bool {
        // Masks are drawn for all tokens.
        self.class_only = self.dropout.is_idle();
        self.class_only
    }

    pub fn forward(&self, input: &Tensor, context: &Context) -> Result<Tensor> {
        let [batch, tokens, features] = shape_of(input);
        // [batch, tokens, parts * features] as [batch, heads, tokens, features of a head] for each part.
        let parts = |joint: &Tensor| -> Result<Vec<Tensor>> {
            let [_, tokens, width] = shape_of(joint);
            let parts = joint.f_view([batch, tokens, width / features, self.heads, features / self.heads])?;
            Ok(parts.f_permute([2, 0, 3, 1, 4])?.f_unbind(0)?)
        };
        let join = |mixed: &Tensor, tokens: i64| mixed.f_transpose(1, 2)?.f_reshape([batch, tokens, features]);
        if self.class_only {
            let query = parts(&self.qkv.forward_part(&class_only(input)?, 0..features, context)?)?;
            let others = parts(&self.qkv.forward_part(input, features..3 * features, context)?)?;
            let mixed = self.composite(&query[0], &others[0], &others[1], context)?;
            return self.proj.forward(&join(&mixed, 1)?, context);
        }
        let qkv = self.qkv.forward(input, context)?;
        if context.has_own_kernels()
            && !self.dropout.drops(context)
            && let Some(mixed) = flatmin_torch_ext::self_attention(&qkv, self.heads)?
        {
            return self.proj.forward(&mixed, context);
        }
        let parts = parts(&qkv)?;
        let (query, key, value) = (&parts[0], &parts[1], &parts[2]);
        let mixed = if self.is_composite(tokens, input.kind(), context) {
            self.composite(query, key, value, context)?
        } else {
            Tensor::f_scaled_dot_product_attention(query, key, value, None::<Tensor>, 0.0, false, None, false)?
        };
        self.proj.forward(&join(&mixed, tokens)?, context)
    }

    /// The fused form has no second derivative, draws its dropout from a stream of its own, and takes twice the time of
    /// matrix products to train 16 bits. Those need memory for the weights, so they serve as long as these are few.
    fn is_composite(&self, tokens: i64, kind: Kind, context: &Context) -> bool {
        let trains = matches!(context.pass, Pass::Train { .. });
        let is_faster = trains && is_half(kind) && tokens <= FEW_TOKENS;
        !context.fused || self.dropout.drops(context) || is_faster
    }

    fn composite(&self, query: &Tensor, key: &Tensor, value: &Tensor, context: &Context) -> Result<Tensor> {
        let features = query.size()[3];
        let query = query.f_mul_scalar((features as f64).powf(-0.5))?;
        let weights = query.f_matmul(&key.f_transpose(2, 3)?)?.f_softmax(-1, None)?;
        Ok(self.dropout.forward(weights, context)?.f_matmul(value)?)
    }
}
