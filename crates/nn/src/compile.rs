//! From the spec to what runs: shapes are inferred layer by layer, parameters get names and kinds, and neighbours that
//! belong together (batch norm and ReLU) become one node. A layer that does not fit is named with its input's shape.

use std::collections::HashSet;

use crate::arena::{ParamKind, ParamSpec};
use crate::error::{Error, Result};
use crate::init::ParamInit;
use crate::layers::{
    self, ClassToken, Conv2d, Draws, Dropout, Gate, LayerNorm, LayerScale, Linear, Merge, Node, NormAct, Parallel,
    ParamId, Pool2d, PositionEmbedding, Relu, Residual, SelfAttention, ShakeDrop, Shortcut, StochasticDepth, ToImage,
    ZeroPad,
};
use crate::site::Site;
use crate::spec::{self, Activation, Layer, ModelSpec};
use crate::summary::LayerSummary;

/// One entry of the state dict, in PyTorch's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateEntry {
    Parameter(ParamId),
    /// The statistics of a batch norm.
    Statistics(usize),
}

/// A compiled spec. Parameters and batch norms are counted in the order of the spec.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    pub parameters: Vec<ParamSpec>,
    pub inits: Vec<ParamInit>,
    /// Name and channels of each batch norm.
    pub norms: Vec<(String, i64)>,
    pub entries: Vec<StateEntry>,
    pub rows: Vec<LayerSummary>,
    /// Names of the layers so far, sequences apart.
    names: HashSet<String>,
    /// Layers so far that draw.
    drawing: u64,
    /// Of the layer that is being compiled: multiply-adds, and numbers that it keeps for the backward pass besides its
    /// output.
    macs: i64,
    kept: i64,
}

/// What flows from one layer to the next.
#[derive(Debug, Clone)]
struct Flow {
    /// Of one image.
    shape: Vec<i64>,
    /// Whether the next layer may overwrite it: nobody else reads it, and the layer that made it did not keep it for its
    /// backward pass.
    owned: bool,
}

/// Compiles a spec. Answers what it needs and the nodes in the order in which they run.
///
/// # Errors
/// `ERR_FLATMIN_OPTION` or `ERR_FLATMIN_SHAPE`, naming the layer.
pub(crate) fn compile(spec: &ModelSpec) -> Result<(Builder, Vec<Node>)> {
    spec.validate()?;
    let mut builder = Builder::default();
    let mut nodes = Vec::new();
    let images = Flow { shape: spec.input_shape.to_vec(), owned: false };
    let output = builder.list(&spec.layers, ("", 0), images, &mut nodes)?;
    if output.shape != [spec.num_classes] {
        let expected = format!("[{0}]: end with flatten and linear, outFeatures {0} (numClasses)", spec.num_classes);
        return Err(Error::shape(format!("the output of the model '{}'", spec.name), &output.shape, expected));
    }
    if let Some(Node::Linear(last)) = nodes.last_mut() {
        last.logits = true;
    }
    Ok((builder, nodes))
}

impl Builder {
    /// Reserves a parameter named after its layer.
    pub fn parameter(
        &mut self,
        site: &Site,
        name: &str,
        shape: &[i64],
        kind: ParamKind,
        init: ParamInit,
    ) -> Result<ParamId> {
        self.reserve(site, format!("{}.{name}", site.name), shape, kind, init)
    }

    /// Reserves a layer's only parameter, which has the layer's own name.
    pub fn own_parameter(&mut self, site: &Site, shape: &[i64], kind: ParamKind, init: ParamInit) -> Result<ParamId> {
        self.reserve(site, site.name.clone(), shape, kind, init)
    }

    fn reserve(
        &mut self,
        site: &Site,
        name: String,
        shape: &[i64],
        kind: ParamKind,
        init: ParamInit,
    ) -> Result<ParamId> {
        site.element_count(shape)?;
        let id = ParamId(self.parameters.len());
        self.parameters.push(ParamSpec { name, shape: shape.to_vec(), kind });
        self.inits.push(init);
        self.entries.push(StateEntry::Parameter(id));
        Ok(id)
    }

    /// Reserves the running statistics of a batch norm.
    pub fn norm(&mut self, site: &Site, channels: i64) -> usize {
        self.norms.push((site.name.clone(), channels));
        self.entries.push(StateEntry::Statistics(self.norms.len() - 1));
        self.norms.len() - 1
    }

    /// Multiply-adds of the layer for one image.
    pub fn count_macs(&mut self, macs: i64) {
        self.macs += macs;
    }

    /// Numbers that one image leaves for the backward pass besides the layer's output.
    pub fn count_kept(&mut self, numbers: i64) {
        self.kept += numbers;
    }

    /// The random numbers of a layer.
    pub fn draws(&mut self) -> Draws {
        self.drawing += 1;
        Draws::new(self.drawing - 1)
    }

    /// Layers whose names follow `prefix`; those without a name are counted from `first`.
    fn list(
        &mut self,
        layers: &[Layer],
        (prefix, first): (&str, usize),
        mut flow: Flow,
        nodes: &mut Vec<Node>,
    ) -> Result<Flow> {
        for (index, layer) in layers.iter().enumerate() {
            let name = layer.name().map_or_else(|| (first + index).to_string(), str::to_owned);
            let mut site = Site { name: format!("{prefix}{name}"), kind: layer.kind(), input: flow.shape };
            if name.is_empty() && layer.joins_branches() {
                site.name = prefix.trim_end_matches('.').to_owned();
                flow = self.layer(layer, site, flow.owned, nodes)?;
                continue;
            }
            site.check_name("name", &name)?;
            if !matches!(layer, Layer::Sequential(_)) && !self.names.insert(site.name.clone()) {
                return Err(site.option("name", "taken by another layer", "a name of its own in each list of layers"));
            }
            flow = self.layer(layer, site, flow.owned, nodes)?;
        }
        Ok(flow)
    }

    fn layer(&mut self, layer: &Layer, site: Site, owned: bool, nodes: &mut Vec<Node>) -> Result<Flow> {
        let first = self.parameters.len();
        let (node, flow) = match layer {
            Layer::Sequential(sequential) => {
                let prefix = site.prefix();
                let flow = Flow { shape: site.input, owned };
                return self.list(&sequential.layers, (&prefix, 0), flow, nodes);
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
            Layer::Relu(_) => {
                let flow = Flow { shape: site.input.clone(), owned: false };
                match nodes.last_mut() {
                    Some(Node::NormAct(norm)) if !norm.relu => {
                        norm.relu = true;
                        (None, flow)
                    }
                    _ => (Some(Node::Relu(Relu { in_place: owned, six: false })), flow),
                }
            }
            Layer::Relu6(_) => {
                let flow = Flow { shape: site.input.clone(), owned: false };
                (Some(Node::Relu(Relu { in_place: owned, six: true })), flow)
            }
            Layer::Conv2d(spec) => {
                let (conv, shape) = Conv2d::compile(spec, &site, self)?;
                (Some(Node::Conv2d(conv)), Flow { shape, owned: true })
            }
            Layer::BatchNorm2d(spec) => {
                let norm = NormAct::compile(spec, &site, self)?;
                (Some(Node::NormAct(norm)), Flow { shape: site.input.clone(), owned: true })
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
                (Some(Node::Dropout(dropout)), Flow { shape: site.input.clone(), owned })
            }
            Layer::ShakeDrop(spec) => {
                let shake_drop = ShakeDrop::compile(spec, &site, self)?;
                (Some(Node::ShakeDrop(shake_drop)), Flow { shape: site.input.clone(), owned: true })
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
                (Some(Node::LayerNorm(norm)), Flow { shape: site.input.clone(), owned: true })
            }
            Layer::LayerNorm2d(spec) => {
                let norm = LayerNorm::compile_2d(spec, &site, self)?;
                (Some(Node::LayerNorm(norm)), Flow { shape: site.input.clone(), owned: true })
            }
            Layer::LayerScale(spec) => {
                let scale = LayerScale::compile(spec, &site, self)?;
                (Some(Node::LayerScale(scale)), Flow { shape: site.input.clone(), owned: true })
            }
            Layer::SelfAttention(spec) => {
                let attention = SelfAttention::compile(spec, &site, self)?;
                (Some(Node::SelfAttention(attention)), Flow { shape: site.input.clone(), owned: true })
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
                (Some(Node::PositionEmbedding(positions)), Flow { shape: site.input.clone(), owned: true })
            }
            Layer::TokenPool(spec) => {
                let shape = vec![site.tokens()?[1]];
                (Some(Node::TokenPool(spec.pool)), Flow { shape, owned: false })
            }
            Layer::StochasticDepth(spec) => {
                let depth = StochasticDepth::compile(spec, &site, self)?;
                (Some(Node::StochasticDepth(depth)), Flow { shape: site.input.clone(), owned })
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

    /// The node of a layer that is made of layers: its row stands after theirs.
    fn composed(&mut self, site: &Site, node: Node, flow: Flow, nodes: &mut Vec<Node>) -> Flow {
        let kept = if node.is_new() { flow.shape.iter().product() } else { 0 };
        self.rows.push(LayerSummary { kept, ..site.row(&flow.shape) });
        nodes.push(node);
        flow
    }

    fn gate(&mut self, spec: &spec::Gate, site: &Site, nodes: &mut Vec<Node>) -> Result<Flow> {
        let mut branch = Vec::new();
        let input = Flow { shape: site.input.clone(), owned: false };
        let output = self.list(&spec.layers, (&site.prefix(), 0), input, &mut branch)?.shape;
        let a_channel = |shape: &[i64]| matches!(shape, &[channels, 1, 1] if site.input[..1] == [channels]);
        if output != site.input && !(site.input.len() == 3 && a_channel(&output)) {
            let expected = format!("{:?}, the shape of its input, or one number for each channel", site.input);
            return Err(Error::shape(format!("the output of the layers of '{}' (gate)", site.name), &output, expected));
        }
        let flow = Flow { shape: site.input.clone(), owned: true };
        Ok(self.composed(site, Node::Gate(Gate { branch }), flow, nodes))
    }

    fn parallel(&mut self, spec: &spec::Parallel, merge: Merge, site: &Site, nodes: &mut Vec<Node>) -> Result<Flow> {
        let prefix = site.prefix();
        let (mut branches, mut shapes, mut first) = (Vec::new(), Vec::new(), 0);
        for layers in &spec.branches {
            let mut branch = Vec::new();
            let input = Flow { shape: site.input.clone(), owned: false };
            shapes.push(self.list(layers, (&prefix, first), input, &mut branch)?.shape);
            branches.push(branch);
            first += layers.len();
        }
        let flow = Flow { shape: merge.shape(site, &shapes)?, owned: true };
        Ok(self.composed(site, Node::Parallel(Parallel { branches, merge }), flow, nodes))
    }

    fn residual(&mut self, spec: &spec::Residual, site: &Site) -> Result<(Residual, Flow)> {
        let prefix = site.prefix();
        let (mut shared, mut branch) = (Vec::new(), Vec::new());
        let input = Flow { shape: site.input.clone(), owned: false };
        let split = Flow { owned: false, ..self.list(&spec.shared, (&prefix, 0), input, &mut shared)? };
        let before = spec.shared.len();
        let output = self.list(&spec.layers, (&prefix, before), split.clone(), &mut branch)?;
        let (shortcut, shape) = match &spec.shortcut {
            spec::Shortcut::Identity => (Shortcut::Identity, split.shape),
            spec::Shortcut::OptionA => {
                let site = Site { name: site.name.clone(), kind: site.kind, input: split.shape };
                (Shortcut::option_a(&site, &output.shape)?, output.shape.clone())
            }
            spec::Shortcut::Layers(layers) => {
                let mut nodes = Vec::new();
                let name = &spec.shortcut_name;
                let flow = if name.is_empty() {
                    self.list(layers, (&prefix, before + spec.layers.len()), split, &mut nodes)?
                } else {
                    site.check_name("shortcutName", name)?;
                    if spec.layers.iter().any(|layer| layer.name() == Some(name)) {
                        let expected = "another name, since the shortcut's layers use it";
                        return Err(site.option("layers", format!("a layer named '{name}'"), expected));
                    }
                    self.list(layers, (&format!("{prefix}{name}."), 0), split, &mut nodes)?
                };
                (Shortcut::Layers(nodes), flow.shape)
            }
        };
        if shape != output.shape {
            let expected = format!("{shape:?}, what its shortcut gives: use shortcut optionA or layers");
            return Err(Error::shape(
                format!("the output of the layers of '{}' (residual)", site.name),
                &output.shape,
                expected,
            ));
        }
        let relu = spec.activation == Activation::Relu;
        let tail = match branch.pop() {
            Some(Node::NormAct(mut norm)) if !norm.relu => {
                norm.relu = relu;
                Some(norm)
            }
            last => {
                branch.extend(last);
                None
            }
        };
        let flow = Flow { shape, owned: !relu };
        Ok((Residual { shared, branch, tail, shortcut, relu, in_place: output.owned }, flow))
    }
}

fn pointwise(activation: layers::Activation, site: &Site) -> (Option<Node>, Flow) {
    let flow = Flow { shape: site.input.clone(), owned: !activation.keeps_output() };
    (Some(Node::Activation(activation)), flow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::{self, ZooOptions};

    #[test]
    fn batch_norm_takes_what_follows_it_along() {
        let spec = zoo::spec("resnet20", &ZooOptions::default()).unwrap();
        let (_, nodes) = compile(&spec).unwrap();
        assert!(matches!(nodes[..2], [Node::Conv2d(_), Node::NormAct(NormAct { relu: true, .. })]));
        let blocks = &nodes[2..11];
        for block in blocks {
            let Node::Residual(block) = block else { panic!("{block:?}") };
            let branch = &block.branch[..];
            assert!(matches!(branch, [Node::Conv2d(_), Node::NormAct(NormAct { relu: true, .. }), Node::Conv2d(_)]));
            assert!(matches!(block.tail, Some(NormAct { relu: true, .. })));
        }
        assert!(matches!(nodes[11..], [Node::GlobalAvgPool2d, Node::Flatten, Node::Linear(_)]));
    }

    #[test]
    fn batch_norm_takes_relu_along_in_pre_activation_blocks() {
        let spec = zoo::spec("wrn16_8", &ZooOptions::default()).unwrap();
        let (_, nodes) = compile(&spec).unwrap();
        let fused = |node: &Node| matches!(node, Node::NormAct(NormAct { relu: true, .. }));
        let Node::Residual(first) = &nodes[1] else { panic!("{:?}", nodes[1]) };
        assert!(matches!(&first.shared[..], [node] if fused(node)));
        assert!(matches!(&first.branch[..], [Node::Conv2d(_), node, Node::Conv2d(_)] if fused(node)));
        let Node::Residual(second) = &nodes[2] else { panic!("{:?}", nodes[2]) };
        assert!(matches!(&second.branch[..], [one, Node::Conv2d(_), two, Node::Conv2d(_)] if fused(one) && fused(two)));
        assert!(fused(&nodes[nodes.len() - 4]));
    }
}
