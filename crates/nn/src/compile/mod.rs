//! From the spec to what runs: shapes are inferred layer by layer, parameters get names and kinds, and neighbours that
//! belong together (batch norm and ReLU) become one node. A layer that does not fit is named with its input's shape.

mod composed;
mod layer;
mod size;

use std::collections::HashSet;

use crate::arena::{ParamKind, ParamSpec};
use crate::error::{Error, Result};
use crate::init::ParamInit;
use crate::layers::{Draws, Node, ParamId};
use crate::site::Site;
use crate::spec::{Layer, ModelSpec};
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
    /// Layers so far that may draw.
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

    /// The random numbers of a layer. One that never takes any counts all the same, so that a probability of 0 changes nothing for
    /// the layers after it.
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{NormAct, Residual, Shortcut};
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
    fn the_last_block_of_a_transformer_works_for_its_class_token() {
        let spec = zoo::spec("vit_s_16", &ZooOptions::default()).unwrap();
        let (_, nodes) = compile(&spec).unwrap();
        let blocks: Vec<&Residual> = nodes
            .iter()
            .filter_map(|node| match node {
                Node::Residual(residual) => Some(residual),
                _ => None,
            })
            .collect();
        let narrow: Vec<usize> =
            (0..24).filter(|&index| blocks[index].shortcut == Shortcut::Layers(vec![Node::ClassOnly])).collect();
        assert_eq!((blocks.len(), narrow), (24, vec![22]));
        assert!(!nodes.iter().any(|node| matches!(node, Node::ClassOnly)));
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
