//! From the spec to what runs: shapes are inferred layer by layer, parameters get names and kinds, and neighbours that
//! belong together (batch norm and ReLU) become one node. A layer that does not fit is named with its input's shape.

use std::collections::HashSet;

use crate::arena::{ParamKind, ParamSpec};
use crate::error::{Error, Result};
use crate::init::ParamInit;
use crate::layers::{
    Conv2d, Draws, Dropout, Linear, Merge, Node, NormAct, Parallel, ParamId, Pool2d, Relu, Residual, ShakeDrop,
    Shortcut, ZeroPad,
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
        site.element_count(shape)?;
        let id = ParamId(self.parameters.len());
        self.parameters.push(ParamSpec { name: format!("{}.{name}", site.name), shape: shape.to_vec(), kind });
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
            let site = Site { name: format!("{prefix}{name}"), kind: layer.kind(), input: flow.shape };
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
                let flow = Flow { shape: site.input, owned };
                return self.list(&sequential.layers, (&format!("{}.", site.name), 0), flow, nodes);
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
        };
        nodes.extend(node);
        let parameters = self.parameters[first..].iter().map(|param| param.shape.iter().product::<i64>()).sum();
        self.rows.push(site.row(&flow.shape, parameters));
        Ok(flow)
    }

    /// The node of a layer that is made of layers: its row stands after theirs.
    fn composed(&mut self, site: &Site, node: Node, flow: Flow, nodes: &mut Vec<Node>) -> Flow {
        self.rows.push(site.row(&flow.shape, 0));
        nodes.push(node);
        flow
    }

    fn parallel(&mut self, spec: &spec::Parallel, merge: Merge, site: &Site, nodes: &mut Vec<Node>) -> Result<Flow> {
        let prefix = format!("{}.", site.name);
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
        let prefix = format!("{}.", site.name);
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
}
