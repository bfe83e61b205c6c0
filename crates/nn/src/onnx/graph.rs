//! An ONNX graph while it grows: nodes in order, and the weights and constants that they call by name.

use std::collections::HashMap;

use tch::{Kind, Tensor};

use super::proto::{AttributeProto, Dimension, FLOAT, GraphProto, INT64, NodeProto, Size, TensorProto};
use super::proto::{TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto};
use crate::error::{Error, Result};
use crate::layers::ParamId;
use crate::model::Model;
use crate::weight_file::payload;

/// What the graph reads, `[batch, channels, height, width]`.
const INPUT: &str = "images";
/// What it gives, `[batch, classes]`.
const OUTPUT: &str = "logits";

/// A tensor in the graph, by the name that nodes call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(String);

/// A setting of a node.
pub enum Attribute {
    Float(&'static str, f64),
    Int(&'static str, i64),
    Ints(&'static str, Vec<i64>),
}

pub struct Graph<'a> {
    model: &'a Model,
    state: HashMap<String, Tensor>,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    /// Those of the initializers, so that each is written once.
    written: HashMap<String, Value>,
}

impl<'a> Graph<'a> {
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for a parameter that is named as the input or the output; if there is no memory for a copy of the
    /// weights.
    pub fn new(model: &'a Model) -> Result<Self> {
        let state: HashMap<_, _> = model.state_dict()?.into_iter().collect();
        if let Some(taken) = [INPUT, OUTPUT].into_iter().find(|&name| state.contains_key(name)) {
            let expected = "another name for its layer: it is that of the ONNX graph's input or output";
            return Err(Error::option("a parameter of the model", format!("'{taken}'"), expected));
        }
        Ok(Self { model, state, nodes: Vec::new(), initializers: Vec::new(), written: HashMap::new() })
    }

    pub fn images(&self) -> Value {
        Value(INPUT.into())
    }

    /// Appends a node with one output.
    pub fn node<const N: usize>(&mut self, operator: &str, inputs: [&Value; N]) -> Value {
        self.node_with(operator, inputs.map(Clone::clone), [])
    }

    /// As [`Self::node`], with settings.
    pub fn node_with(
        &mut self,
        operator: &str,
        inputs: impl IntoIterator<Item = Value>,
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Value {
        let name = format!("{operator}_{}", self.nodes.len());
        self.nodes.push(NodeProto {
            input: inputs.into_iter().map(|value| value.0).collect(),
            output: vec![name.clone()],
            name: Some(name.clone()),
            op_type: Some(operator.into()),
            attribute: attributes.into_iter().map(AttributeProto::from).collect(),
        });
        Value(name)
    }

    /// A parameter under its name in the state dict.
    ///
    /// # Errors
    /// What libtorch answers.
    pub fn parameter(&mut self, id: ParamId) -> Result<Value> {
        let name = self.name(id).to_owned();
        self.entry(&name)
    }

    /// Its shape.
    pub fn shape(&self, id: ParamId) -> &[i64] {
        &self.model.parameters().segments()[self.model.positions()[id.0]].shape
    }

    /// Running mean and variance of a batch norm.
    ///
    /// # Errors
    /// What libtorch answers.
    pub fn statistics(&mut self, norm: usize) -> Result<(Value, Value)> {
        let name = self.model.buffers().name(norm).to_owned();
        Ok((self.entry(&format!("{name}.running_mean"))?, self.entry(&format!("{name}.running_var"))?))
    }

    /// Its channels.
    pub fn channels(&self, norm: usize) -> i64 {
        self.state[&format!("{}.running_mean", self.model.buffers().name(norm))].size()[0]
    }

    /// Whole numbers, which other operators take as shapes, axes and indices.
    pub fn whole_numbers(&mut self, values: &[i64]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let name = format!("ints_{}", values.iter().map(i64::to_string).collect::<Vec<_>>().join("_"));
        self.constant(name, vec![values.len() as i64], INT64, bytes)
    }

    /// One whole number, without a dimension.
    pub fn index(&mut self, value: i64) -> Value {
        self.constant(format!("int_{value}"), Vec::new(), INT64, value.to_le_bytes().to_vec())
    }

    /// One number, without a dimension.
    pub fn number(&mut self, value: f64) -> Value {
        self.constant(format!("float_{value}"), Vec::new(), FLOAT, (value as f32).to_le_bytes().to_vec())
    }

    /// A vector of one number.
    pub fn vector(&mut self, length: i64, value: f64) -> Value {
        let bytes = (value as f32).to_le_bytes().repeat(length as usize);
        self.constant(format!("floats_{value}_{length}"), vec![length], FLOAT, bytes)
    }

    /// The graph with `logits` as its output.
    pub fn finish(mut self, logits: &Value) -> GraphProto {
        for name in self.nodes.iter_mut().flat_map(|node| node.output.iter_mut().chain(&mut node.input)) {
            if *name == logits.0 {
                OUTPUT.clone_into(name);
            }
        }
        let spec = self.model.spec();
        let [channels, height, width] = spec.input_shape;
        let describe = "(pixel - mean) / std by channel, pixels in [0, 1]; mean and std as in the metadata";
        GraphProto {
            name: Some(spec.name.clone()),
            input: vec![tensor_info(INPUT, &[channels, height, width], Some(describe.into()))],
            output: vec![tensor_info(OUTPUT, &[spec.num_classes], None)],
            node: self.nodes,
            initializer: self.initializers,
        }
    }

    fn name(&self, id: ParamId) -> &str {
        &self.model.parameters().segments()[self.model.positions()[id.0]].name
    }

    /// An entry of the state dict. Its name is the model's, so it is there.
    fn entry(&mut self, name: &str) -> Result<Value> {
        if let Some(value) = self.written.get(name) {
            return Ok(value.clone());
        }
        let tensor = self.state[name].f_to_kind(Kind::Float)?;
        let bytes = payload(&tensor)?;
        Ok(self.constant(name.to_owned(), tensor.size(), FLOAT, bytes))
    }

    fn constant(&mut self, name: String, dims: Vec<i64>, data_type: i32, bytes: Vec<u8>) -> Value {
        if let Some(value) = self.written.get(&name) {
            return value.clone();
        }
        let value = Value(name.clone());
        self.written.insert(name.clone(), value.clone());
        self.initializers.push(TensorProto {
            dims,
            data_type: Some(data_type),
            name: Some(name),
            raw_data: Some(bytes),
        });
        value
    }
}

impl From<Attribute> for AttributeProto {
    fn from(attribute: Attribute) -> Self {
        // Numbers of AttributeProto.AttributeType.
        match attribute {
            Attribute::Float(name, value) => {
                Self { name: Some(name.into()), f: Some(value as f32), r#type: Some(1), ..Self::default() }
            }
            Attribute::Int(name, value) => {
                Self { name: Some(name.into()), i: Some(value), r#type: Some(2), ..Self::default() }
            }
            Attribute::Ints(name, ints) => Self { name: Some(name.into()), ints, r#type: Some(7), ..Self::default() },
        }
    }
}

/// Float tensors of a batch of any size.
fn tensor_info(name: &str, shape: &[i64], doc_string: Option<String>) -> ValueInfoProto {
    let sizes = std::iter::once(Size::DimParam("batch".into())).chain(shape.iter().map(|&size| Size::DimValue(size)));
    let dim = sizes.map(|size| Dimension { value: Some(size) }).collect();
    let tensor_type = TensorTypeProto { elem_type: Some(FLOAT), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }), doc_string }
}
