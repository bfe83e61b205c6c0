//! The layers that are made of layers.

use super::{Builder, Flow};
use crate::error::{Error, Result};
use crate::layers::{Gate, Merge, Node, Parallel, Residual, Shortcut};
use crate::site::Site;
use crate::spec::{self, Activation};
use crate::summary::LayerSummary;

impl Builder {
    /// The node of a layer that is made of layers: its row stands after theirs.
    pub(super) fn composed(&mut self, site: &Site, node: Node, flow: Flow, nodes: &mut Vec<Node>) -> Flow {
        let kept = if node.is_new() { flow.shape.iter().product() } else { 0 };
        self.rows.push(LayerSummary { kept, ..site.row(&flow.shape) });
        nodes.push(node);
        flow
    }

    pub(super) fn gate(&mut self, spec: &spec::Gate, site: &Site, nodes: &mut Vec<Node>) -> Result<Flow> {
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

    pub(super) fn parallel(
        &mut self,
        spec: &spec::Parallel,
        merge: Merge,
        site: &Site,
        nodes: &mut Vec<Node>,
    ) -> Result<Flow> {
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

    pub(super) fn residual(&mut self, spec: &spec::Residual, site: &Site) -> Result<(Residual, Flow)> {
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
