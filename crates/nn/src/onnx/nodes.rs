//! What each layer is in ONNX's operators.

use super::graph::{Attribute, Graph, Value};
use crate::error::Result;
use crate::layers::{
    Activation, ClassToken, Conv2d, LayerNorm, Linear, Merge, Node, NormAct, Parallel, ParamId, Pool2d, Reduction,
    Residual, SelfAttention, Shortcut,
};
use crate::spec::{Approximation, Pool};

/// Layers in order.
pub fn run(nodes: &[Node], input: Value, graph: &mut Graph) -> Result<Value> {
    nodes.iter().try_fold(input, |value, node| one(node, value, graph))
}

fn one(node: &Node, input: Value, graph: &mut Graph) -> Result<Value> {
    match node {
        Node::Conv2d(layer) => conv2d(layer, input, graph),
        Node::NormAct(layer) => norm_act(layer, &input, None, graph),
        Node::Linear(layer) => linear(layer, &input, graph),
        Node::Relu(layer) if layer.six => {
            let (low, high) = (graph.number(0.0), graph.number(6.0));
            Ok(graph.node("Clip", [&input, &low, &high]))
        }
        Node::Relu(_) => Ok(graph.node("Relu", [&input])),
        Node::Pool2d(layer) => Ok(pool2d(layer, input, graph)),
        Node::GlobalAvgPool2d => Ok(graph.node("GlobalAveragePool", [&input])),
        Node::Flatten => Ok(graph.node_with("Flatten", [input], [Attribute::Int("axis", 1)])),
        Node::Dropout(_) | Node::StochasticDepth(_) => Ok(input),
        Node::ShakeDrop(layer) => {
            let keep = graph.number(layer.keep);
            Ok(graph.node("Mul", [&input, &keep]))
        }
        Node::ZeroPad(layer) => {
            let [left, right, top, bottom, before, after] = layer.widths;
            Ok(pad(&input, [0, before, top, left, 0, after, bottom, right], graph))
        }
        Node::Residual(layer) => residual(layer, input, graph),
        Node::Parallel(layer) => parallel(layer, &input, graph),
        Node::Activation(activation) => Ok(pointwise(*activation, input, graph)),
        Node::LayerNorm(layer) => layer_norm(layer, input, graph),
        Node::LayerScale(layer) => {
            let factors = graph.parameter(layer.factors)?;
            Ok(graph.node("Mul", [&input, &factors]))
        }
        Node::SelfAttention(layer) => self_attention(layer, &input, graph),
        Node::ToTokens => {
            let lists = reshape(&input, &[0, 0, -1], graph);
            Ok(transpose(lists, &[0, 2, 1], graph))
        }
        Node::ToImage(layer) => {
            let lists = transpose(input, &[0, 2, 1], graph);
            Ok(reshape(&lists, &[0, 0, layer.height, layer.width], graph))
        }
        Node::ClassToken(layer) => class_token(layer, input, graph),
        Node::PositionEmbedding(layer) => {
            let positions = graph.parameter(layer.positions)?;
            Ok(graph.node("Add", [&input, &positions]))
        }
        Node::ClassOnly => Ok(first(&input, 1, graph)),
        Node::TokenPool(Pool::Class) => Ok(take(&input, 1, 0, graph)),
        Node::TokenPool(Pool::Mean) => {
            let settings = [Attribute::Ints("axes", vec![1]), Attribute::Int("keepdims", 0)];
            Ok(graph.node_with("ReduceMean", [input], settings))
        }
        Node::Gate(layer) => {
            let gate = run(&layer.branch, input.clone(), graph)?;
            Ok(graph.node("Mul", [&input, &gate]))
        }
    }
}

fn conv2d(layer: &Conv2d, input: Value, graph: &mut Graph) -> Result<Value> {
    let kernel = graph.shape(layer.weight)[2..].to_vec();
    let mut inputs = vec![input, graph.parameter(layer.weight)?];
    if let Some(bias) = layer.bias {
        inputs.push(graph.parameter(bias)?);
    }
    let settings = [windows(&kernel, layer.stride, layer.padding), vec![Attribute::Int("group", layer.groups)]];
    Ok(graph.node_with("Conv", inputs, settings.into_iter().flatten()))
}

fn windows(kernel: &[i64], stride: i64, padding: i64) -> Vec<Attribute> {
    vec![
        Attribute::Ints("kernel_shape", kernel.to_vec()),
        Attribute::Ints("strides", vec![stride; 2]),
        Attribute::Ints("pads", vec![padding; 4]),
    ]
}

fn norm_act(layer: &NormAct, input: &Value, addend: Option<&Value>, graph: &mut Graph) -> Result<Value> {
    let (mean, variance) = graph.statistics(layer.norm)?;
    let channels = graph.channels(layer.norm);
    let (gamma, beta) = affine(layer.affine, channels, graph)?;
    let epsilon = Attribute::Float("epsilon", layer.eps);
    let inputs = [input.clone(), gamma, beta, mean, variance];
    let mut output = graph.node_with("BatchNormalization", inputs, [epsilon]);
    if let Some(addend) = addend {
        output = graph.node("Add", [&output, addend]);
    }
    Ok(if layer.relu { graph.node("Relu", [&output]) } else { output })
}

/// Gain and offset, which ONNX wants even where nothing is learnt.
fn affine(affine: Option<(ParamId, ParamId)>, length: i64, graph: &mut Graph) -> Result<(Value, Value)> {
    match affine {
        Some((gamma, beta)) => Ok((graph.parameter(gamma)?, graph.parameter(beta)?)),
        None => Ok((graph.vector(length, 1.0), graph.vector(length, 0.0))),
    }
}

/// Of `[batch, features]` and of `[batch, tokens, features]` alike.
fn linear(layer: &Linear, input: &Value, graph: &mut Graph) -> Result<Value> {
    let weight = graph.parameter(layer.weight)?;
    let weight = transpose(weight, &[1, 0], graph);
    let product = graph.node("MatMul", [input, &weight]);
    let Some(bias) = layer.bias else { return Ok(product) };
    let bias = graph.parameter(bias)?;
    Ok(graph.node("Add", [&product, &bias]))
}

fn pool2d(layer: &Pool2d, input: Value, graph: &mut Graph) -> Value {
    let mut settings = windows(&[layer.kernel; 2], layer.stride, layer.padding);
    match layer.reduction {
        Reduction::Max => graph.node_with("MaxPool", [input], settings),
        Reduction::Mean => {
            settings.push(Attribute::Int("count_include_pad", 1));
            graph.node_with("AveragePool", [input], settings)
        }
    }
}

fn residual(layer: &Residual, input: Value, graph: &mut Graph) -> Result<Value> {
    let input = run(&layer.shared, input, graph)?;
    let branch = run(&layer.branch, input.clone(), graph)?;
    let shortcut = match &layer.shortcut {
        Shortcut::Identity => input,
        Shortcut::Layers(nodes) => run(nodes, input, graph)?,
        &Shortcut::OptionA { stride, pad_before, pad_after } => {
            let thinned = every(&input, stride, graph);
            pad(&thinned, [0, pad_before, 0, 0, 0, pad_after, 0, 0], graph)
        }
    };
    if let Some(norm) = &layer.tail {
        return norm_act(norm, &branch, Some(&shortcut), graph);
    }
    let sum = graph.node("Add", [&branch, &shortcut]);
    Ok(if layer.relu { graph.node("Relu", [&sum]) } else { sum })
}

fn parallel(layer: &Parallel, input: &Value, graph: &mut Graph) -> Result<Value> {
    let outputs = layer.branches.iter().map(|branch| run(branch, input.clone(), graph));
    let outputs = outputs.collect::<Result<Vec<_>>>()?;
    Ok(match layer.merge {
        Merge::Concat => graph.node_with("Concat", outputs, [Attribute::Int("axis", 1)]),
        Merge::Sum => graph.node_with("Sum", outputs, []),
        Merge::ShakeShake(_) => graph.node_with("Mean", outputs, []),
    })
}

fn pointwise(activation: Activation, input: Value, graph: &mut Graph) -> Value {
    match activation {
        Activation::Silu => {
            let share = graph.node("Sigmoid", [&input]);
            graph.node("Mul", [&input, &share])
        }
        Activation::Gelu(approximation) => {
            let half_more = match approximation {
                Approximation::None => {
                    let root = graph.number(std::f64::consts::SQRT_2);
                    let scaled = graph.node("Div", [&input, &root]);
                    graph.node("Erf", [&scaled])
                }
                Approximation::Tanh => {
                    let (three, cubic) = (graph.number(3.0), graph.number(0.044_715));
                    let cube = graph.node("Pow", [&input, &three]);
                    let cube = graph.node("Mul", [&cube, &cubic]);
                    let sum = graph.node("Add", [&input, &cube]);
                    let factor = graph.number(std::f64::consts::FRAC_2_PI.sqrt());
                    let scaled = graph.node("Mul", [&sum, &factor]);
                    graph.node("Tanh", [&scaled])
                }
            };
            let (one, half) = (graph.number(1.0), graph.number(0.5));
            let twice = graph.node("Add", [&half_more, &one]);
            let product = graph.node("Mul", [&input, &twice]);
            graph.node("Mul", [&product, &half])
        }
        Activation::Hardswish => graph.node("HardSwish", [&input]),
        Activation::Sigmoid => graph.node("Sigmoid", [&input]),
        Activation::Tanh => graph.node("Tanh", [&input]),
        Activation::LeakyRelu { negative_slope } => {
            graph.node_with("LeakyRelu", [input], [Attribute::Float("alpha", negative_slope)])
        }
    }
}

fn layer_norm(layer: &LayerNorm, input: Value, graph: &mut Graph) -> Result<Value> {
    let (gamma, beta) = affine(layer.affine, layer.features, graph)?;
    let input = if layer.of_pixels { transpose(input, &[0, 2, 3, 1], graph) } else { input };
    let settings = [Attribute::Int("axis", -1), Attribute::Float("epsilon", layer.eps)];
    let output = graph.node_with("LayerNormalization", [input, gamma, beta], settings);
    Ok(if layer.of_pixels { transpose(output, &[0, 3, 1, 2], graph) } else { output })
}

fn self_attention(layer: &SelfAttention, input: &Value, graph: &mut Graph) -> Result<Value> {
    let features = graph.shape(layer.proj.weight)[0];
    let of_head = features / layer.heads;
    let parts = linear(&layer.qkv, input, graph)?;
    let parts = reshape(&parts, &[0, 0, 3, layer.heads, of_head], graph);
    // [3, batch, heads, tokens, features of a head]
    let parts = transpose(parts, &[2, 0, 3, 1, 4], graph);
    let [query, key, value] = [0, 1, 2].map(|part| take(&parts, 0, part, graph));
    let query = if layer.class_only { first(&query, 2, graph) } else { query };
    let scale = graph.number((of_head as f64).powf(-0.5));
    let query = graph.node("Mul", [&query, &scale]);
    let key = transpose(key, &[0, 1, 3, 2], graph);
    let weights = graph.node("MatMul", [&query, &key]);
    let weights = graph.node_with("Softmax", [weights], [Attribute::Int("axis", -1)]);
    let mixed = graph.node("MatMul", [&weights, &value]);
    let mixed = transpose(mixed, &[0, 2, 1, 3], graph);
    let mixed = reshape(&mixed, &[0, 0, features], graph);
    linear(&layer.proj, &mixed, graph)
}

/// The token is repeated for each image of a batch whose size is known when the model runs.
fn class_token(layer: &ClassToken, tokens: Value, graph: &mut Graph) -> Result<Value> {
    let features = graph.shape(layer.token)[2];
    let settings = [Attribute::Int("start", 0), Attribute::Int("end", 1)];
    let batch = graph.node_with("Shape", [tokens.clone()], settings);
    let rest = graph.whole_numbers(&[1, features]);
    let shape = graph.node_with("Concat", [batch, rest], [Attribute::Int("axis", 0)]);
    let token = graph.parameter(layer.token)?;
    let repeated = graph.node("Expand", [&token, &shape]);
    Ok(graph.node_with("Concat", [repeated, tokens], [Attribute::Int("axis", 1)]))
}

fn transpose(input: Value, order: &[i64], graph: &mut Graph) -> Value {
    graph.node_with("Transpose", [input], [Attribute::Ints("perm", order.to_vec())])
}

/// 0 stands for a size that stays, -1 for what is left.
fn reshape(input: &Value, shape: &[i64], graph: &mut Graph) -> Value {
    let shape = graph.whole_numbers(shape);
    graph.node("Reshape", [input, &shape])
}

/// The first entry of an axis, which stays.
fn first(input: &Value, axis: i64, graph: &mut Graph) -> Value {
    let entries = graph.whole_numbers(&[0]);
    graph.node_with("Gather", [input.clone(), entries], [Attribute::Int("axis", axis)])
}

/// One entry of an axis, which goes.
fn take(input: &Value, axis: i64, entry: i64, graph: &mut Graph) -> Value {
    let entry = graph.index(entry);
    graph.node_with("Gather", [input.clone(), entry], [Attribute::Int("axis", axis)])
}

/// Zeros before and after each of the four dimensions; negative numbers cut off.
fn pad(input: &Value, widths: [i64; 8], graph: &mut Graph) -> Value {
    if widths == [0; 8] {
        return input.clone();
    }
    let widths = graph.whole_numbers(&widths);
    graph.node("Pad", [input, &widths])
}

/// Every `stride`-th row and column.
fn every(image: &Value, stride: i64, graph: &mut Graph) -> Value {
    if stride == 1 {
        return image.clone();
    }
    let (starts, ends) = (graph.whole_numbers(&[0, 0]), graph.whole_numbers(&[i64::MAX, i64::MAX]));
    let (axes, steps) = (graph.whole_numbers(&[2, 3]), graph.whole_numbers(&[stride, stride]));
    graph.node("Slice", [image, &starts, &ends, &axes, &steps])
}
