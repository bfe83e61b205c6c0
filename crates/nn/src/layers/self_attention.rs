//! Multi-head self-attention (Vaswani 2017, section 3.2): softmax(q k^T / sqrt(d)) v in each head of d features, between
//! two linear maps.

use tch::{Kind, Tensor};

use super::tokens::shape_of;
use super::{Context, Dropout, Linear, Pass};
use crate::compile::Builder;
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
        Ok(Self { qkv, proj, heads, dropout: Dropout::of("dropout", dropout, site, builder)? })
    }

    pub fn forward(&self, input: &Tensor, context: &Context) -> Result<Tensor> {
        let [batch, tokens, features] = shape_of(input);
        let parts = self.qkv.forward(input, context)?.f_view([batch, tokens, 3, self.heads, features / self.heads])?;
        let parts = parts.f_permute([2, 0, 3, 1, 4])?.f_unbind(0)?;
        let (query, key, value) = (&parts[0], &parts[1], &parts[2]);
        let mixed = if self.is_composite(tokens, input.kind(), context) {
            self.composite(query, key, value, context)?
        } else {
            Tensor::f_scaled_dot_product_attention(query, key, value, None::<Tensor>, 0.0, false, None, false)?
        };
        self.proj.forward(&mixed.f_transpose(1, 2)?.f_reshape([batch, tokens, features])?, context)
    }

    /// The fused form has no second derivative, draws its dropout from a stream of its own, and takes twice the time of
    /// matrix products to train bfloat16. Those need memory for the weights, so they serve as long as these are few.
    fn is_composite(&self, tokens: i64, kind: Kind, context: &Context) -> bool {
        let trains = matches!(context.pass, Pass::Train { .. });
        let is_faster = trains && kind == Kind::BFloat16 && tokens <= FEW_TOKENS;
        !context.fused || self.dropout.drops(context) || is_faster
    }

    fn composite(&self, query: &Tensor, key: &Tensor, value: &Tensor, context: &Context) -> Result<Tensor> {
        let features = query.size()[3];
        let query = query.f_mul_scalar((features as f64).powf(-0.5))?;
        let weights = query.f_matmul(&key.f_transpose(2, 3)?)?.f_softmax(-1, None)?;
        Ok(self.dropout.forward(weights, context)?.f_matmul(value)?)
    }
}
