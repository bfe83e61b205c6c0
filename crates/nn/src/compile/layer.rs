//! One layer of the spec becomes a node: its shape, its parameters, its row of the summary.

use super::{Builder, Flow};
use crate::error::Result;
use crate::layers::{
    self, ClassToken, Conv2d, Dropout, LayerNorm, LayerScale, Linear, Merge, Node, NormAct, Pool2d, PositionEmbedding,
    Relu, SelfAttention, ShakeDrop, StochasticDepth, ToImage, ZeroPad,
};
use crate::site::Site;
use crate::spec::{Layer, Pool};
use crate::summary::LayerSummary;

impl Builder {
    pub(super) fn layer(&mut self, layer: &Layer, site: Site, owned: bool, nodes: &mut Vec<Node>) -> Result<Flow> {
        let first = self.parameters.len();
        let same = |owned| Flow { shape: site.input.clone(), owned };
        let (node, flow) = match layer {
            Layer::Sequential(sequential) => {
                return self.list(&sequential.layers, (&site.prefix(), 0), same(owned), nodes);
            }
            Layer::Residual(residual) => {
                let (residual, flow) = self.residual(residual, &site)?;
                return Ok(self.composed(&site, Node::Residual(residual), flow, nodes));
            }
            Layer::Concat(spec) => return self.parallel(spec, Merge::Concat, &site, nodes),
            Layer::Sum(spec) => return self.parallel(spec, Merge::Sum, &site, nodes),
            Layer::ShakeShake(spec) => {
                let merge = Merge::ShakeShake(self.draws());
                return self.parallel(spec, merge, &site, nodes);
            }
            Layer::Relu(_) => match nodes.last_mut() {
                Some(Node::NormAct(norm)) if !norm.relu => {
                    norm.relu = true;
                    (None, same(false))
                }
                _ => (Some(Node::Relu(Relu { in_place: owned, six: false })), same(false)),
            },
            Layer::Relu6(_) => (Some(Node::Relu(Relu { in_place: owned, six: true })), same(false)),
            Layer::Conv2d(spec) => {
                let (conv, shape) = Conv2d::compile(spec, &site, self)?;
                (Some(Node::Conv2d(conv)), Flow { shape, owned: true })
            }
            Layer::BatchNorm2d(spec) => {
                let norm = NormAct::compile(spec, &site, self)?;
                (Some(Node::NormAct(norm)), same(true))
            }
            Layer::Linear(spec) => {
                let (linear, shape) = Linear::compile(spec, &site, self)?;
                (Some(Node::Linear(linear)), Flow { shape, owned: true })
            }
            Layer::MaxPool2d(spec) => {
                let (pool, shape) = Pool2d::compile_max(spec, &site)?;
                (Some(Node::Pool2d(pool)), Flow { shape, owned: true })
            }
            Layer::AvgPool2d(spec) => {
                let (pool, shape) = Pool2d::compile_mean(spec, &site)?;
                (Some(Node::Pool2d(pool)), Flow { shape, owned: true })
            }
            Layer::GlobalAvgPool2d(_) => {
                (Some(Node::GlobalAvgPool2d), Flow { shape: vec![site.image()?[0], 1, 1], owned: true })
            }
            Layer::Flatten(_) => {
                (Some(Node::Flatten), Flow { shape: vec![site.element_count(&site.input)?], owned: false })
            }
            Layer::Dropout(spec) => {
                let dropout = Dropout::compile(spec, &site, self)?;
                (Some(Node::Dropout(dropout)), same(owned))
            }
            Layer::ShakeDrop(spec) => {
                let shake_drop = ShakeDrop::compile(spec, &site, self)?;
                (Some(Node::ShakeDrop(shake_drop)), same(true))
            }
            Layer::ZeroPad(spec) => {
                let (pad, shape) = ZeroPad::compile(spec, &site)?;
                (Some(Node::ZeroPad(pad)), Flow { shape, owned: true })
            }
            Layer::Silu(_) => pointwise(layers::Activation::Silu, &site),
            Layer::Gelu(spec) => pointwise(layers::Activation::Gelu(spec.approximate), &site),
            Layer::Hardswish(_) => pointwise(layers::Activation::Hardswish, &site),
            Layer::Sigmoid(_) => pointwise(layers::Activation::Sigmoid, &site),
            Layer::Tanh(_) => pointwise(layers::Activation::Tanh, &site),
            Layer::LeakyRelu(spec) => pointwise(layers::Activation::leaky_relu(spec, &site)?, &site),
            Layer::LayerNorm(spec) => {
                let norm = LayerNorm::compile(spec, &site, self)?;
                (Some(Node::LayerNorm(norm)), same(true))
            }
            Layer::LayerNorm2d(spec) => {
                let norm = LayerNorm::compile_2d(spec, &site, self)?;
                (Some(Node::LayerNorm(norm)), same(true))
            }
            Layer::LayerScale(spec) => {
                let scale = LayerScale::compile(spec, &site, self)?;
                (Some(Node::LayerScale(scale)), same(true))
            }
            Layer::SelfAttention(spec) => {
                let attention = SelfAttention::compile(spec, &site, self)?;
                (Some(Node::SelfAttention(attention)), same(true))
            }
            Layer::ToTokens(_) => {
                let [channels, height, width] = site.image()?;
                (Some(Node::ToTokens), Flow { shape: vec![height * width, channels], owned: false })
            }
            Layer::ToImage(spec) => {
                let (image, shape) = ToImage::compile(spec, &site)?;
                (Some(Node::ToImage(image)), Flow { shape, owned: false })
            }
            Layer::ClassToken(_) => {
                let (token, shape) = ClassToken::compile(&site, self)?;
                (Some(Node::ClassToken(token)), Flow { shape, owned: true })
            }
            Layer::PositionEmbedding(_) => {
                let positions = PositionEmbedding::compile(&site, self)?;
                (Some(Node::PositionEmbedding(positions)), same(true))
            }
            Layer::TokenPool(spec) => {
                let shape = vec![site.tokens()?[1]];
                if spec.pool == Pool::Class {
                    keep_class(nodes);
                }
                (Some(Node::TokenPool(spec.pool)), Flow { shape, owned: false })
            }
            Layer::StochasticDepth(spec) => {
                let depth = StochasticDepth::compile(spec, &site, self)?;
                (Some(Node::StochasticDepth(depth)), same(owned))
            }
            Layer::Gate(spec) => return self.gate(spec, &site, nodes),
        };
        let parameters = self.parameters[first..].iter().map(|param| param.shape.iter().product::<i64>()).sum();
        let output = if node.as_ref().is_some_and(Node::is_new) { site.element_count(&flow.shape)? } else { 0 };
        let (macs, kept) = (std::mem::take(&mut self.macs), output + std::mem::take(&mut self.kept));
        self.rows.push(LayerSummary { parameters, macs, kept, ..site.row(&flow.shape) });
        nodes.extend(node);
        Ok(flow)
    }
}

fn pointwise(activation: layers::Activation, site: &Site) -> (Option<Node>, Flow) {
    let flow = Flow { shape: site.input.clone(), owned: !activation.keeps_output() };
    (Some(Node::Activation(activation)), flow)
}

/// Spares the layers before a class token is taken what they would do for the other tokens: what treats each token by itself
/// gets the class token alone, and attention before that asks for it alone. Results are the same.
fn keep_class(nodes: &mut Vec<Node>) {
    let first = nodes.iter().rposition(|node| !node.is_pointwise()).map_or(0, |last| last + 1);
    if let Some(Node::Residual(residual)) = nodes[..first].last_mut()
        && residual.keep_class()
    {
        return;
    }
    if first < nodes.len() {
        nodes.insert(first, Node::ClassOnly);
    }
}
