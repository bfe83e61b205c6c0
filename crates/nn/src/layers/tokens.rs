//! Between images and tokens `[tokens, features]`, and what vision transformers add to them (Dosovitskiy 2021, section 3.1):
//! a class token in front, learnt positions.

use tch::Tensor;

use super::{Context, ParamId};
use crate::arena::ParamKind;
use crate::compile::Builder;
use crate::dtype::is_half;
use crate::error::Result;
use crate::init::ParamInit;
use crate::site::Site;
use crate::spec;

/// Moves nothing in memory: a channels-last image is a list of its pixels.
pub(crate) fn to_tokens(image: &Tensor) -> Result<Tensor> {
    Ok(image.f_flatten(2, 3)?.f_transpose(1, 2)?)
}

/// The way back.
#[derive(Debug, PartialEq)]
pub(crate) struct ToImage {
    pub height: i64,
    pub width: i64,
}

impl ToImage {
    /// Answers the layer and its output shape.
    pub fn compile(spec: &spec::ToImage, site: &Site) -> Result<(Self, Vec<i64>)> {
        let [tokens, features] = site.tokens()?;
        let (height, width) = match (spec.height, spec.width) {
            (Some(height), Some(width)) => (height, width),
            (Some(height), None) => (height, tokens / height.max(1)),
            (None, Some(width)) => (tokens / width.max(1), width),
            (None, None) => (tokens.isqrt(), tokens.isqrt()),
        };
        site.check_size("height", height, 1)?;
        site.check_size("width", width, 1)?;
        if height * width != tokens {
            return Err(site.misfit(format!("[{height} x {width}, features]: give the image's height and width")));
        }
        Ok((Self { height, width }, vec![features, height, width]))
    }

    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let [batch, _, features] = shape_of(tokens);
        Ok(tokens.f_transpose(1, 2)?.f_reshape([batch, features, self.height, self.width])?)
    }
}

/// One learnt token in front of the others.
#[derive(Debug, PartialEq)]
pub(crate) struct ClassToken {
    pub token: ParamId,
}

impl ClassToken {
    /// Answers the layer and its output shape. The token starts near 0, as timm has it.
    pub fn compile(site: &Site, builder: &mut Builder) -> Result<(Self, Vec<i64>)> {
        let [tokens, features] = site.tokens()?;
        let init = ParamInit::Normal { deviation: 1e-6 };
        let token = builder.own_parameter(site, &[1, 1, features], ParamKind::Embedding, init)?;
        Ok((Self { token }, vec![tokens + 1, features]))
    }

    pub fn forward(&self, tokens: &Tensor, context: &Context) -> Result<Tensor> {
        let [batch, _, features] = shape_of(tokens);
        let token = context.parameter(self.token).f_to_kind(tokens.kind())?.f_expand([batch, 1, features], false)?;
        Ok(Tensor::f_cat(&[&token, tokens], 1)?)
    }
}

/// A learnt vector for each place, added to its token.
#[derive(Debug, PartialEq)]
pub(crate) struct PositionEmbedding {
    pub positions: ParamId,
}

impl PositionEmbedding {
    pub fn compile(site: &Site, builder: &mut Builder) -> Result<Self> {
        let [tokens, features] = site.tokens()?;
        let init = ParamInit::Normal { deviation: 0.02 };
        let positions = builder.own_parameter(site, &[1, tokens, features], ParamKind::Embedding, init)?;
        Ok(Self { positions })
    }

    pub fn forward(&self, tokens: &Tensor, context: &Context) -> Result<Tensor> {
        Ok(tokens.f_add(&context.parameter(self.positions).f_to_kind(tokens.kind())?)?)
    }
}

/// The first token, `[batch, 1, features]`.
pub(crate) fn class_only(tokens: &Tensor) -> Result<Tensor> {
    Ok(tokens.f_narrow(1, 0, 1)?)
}

/// One vector of all tokens.
pub(crate) fn pool(pool: spec::Pool, tokens: &Tensor, context: &Context) -> Result<Tensor> {
    Ok(match pool {
        spec::Pool::Class => tokens.f_select(1, 0)?,
        // As with images, the mean of tokens of 16 bits stays in float32.
        spec::Pool::Mean if is_half(tokens.kind()) => tokens.f_mean_dim(&[1i64][..], false, context.dtype.kind())?,
        spec::Pool::Mean => tokens.f_mean_dim(&[1i64][..], false, None)?,
    })
}

/// `[batch, tokens, features]`.
pub(super) fn shape_of(tokens: &Tensor) -> [i64; 3] {
    let shape = tokens.size();
    [shape[0], shape[1], shape[2]]
}
