//! Vision transformers (Dosovitskiy 2021) with patches of 16 x 16 pixels; named and initialised as in timm, so that its
//! weights load. An input that is no multiple of 16 loses the rest of its last rows and columns.

use super::parts::{IMAGENET, add, drop_probabilities, layer_norm, linear, model, sequential, stochastic_depth};
use super::{Entry, ZooOptions};
use crate::spec::{
    ClassToken, Conv2d, Gelu, Init, Layer, ModelSpec, Pointwise, Pool, PositionEmbedding, SelfAttention, TokenPool,
};

/// ViT-S (Touvron 2021, table 1).
pub(super) const MODELS: &[Entry] =
    &[Entry { name: "vit_s_16", options: &["stochasticDepth"], spec: |options| spec("vit_s_16", 384, 12, 6, options) }];

fn spec(name: &str, features: i64, depth: usize, num_heads: i64, options: &ZooOptions) -> ModelSpec {
    let blocks = drop_probabilities(options.stochastic_depth.unwrap_or(0.0), depth)
        .enumerate()
        .map(|(index, drop)| block(&index.to_string(), features, num_heads, drop));
    model(name, IMAGENET, options, |num_classes| {
        vec![
            sequential("patch_embed", vec![patches("proj", features), Layer::ToTokens(Pointwise::default())]),
            Layer::ClassToken(ClassToken { name: Some("cls_token".into()) }),
            Layer::PositionEmbedding(PositionEmbedding { name: Some("pos_embed".into()) }),
            sequential("blocks", blocks.collect()),
            // Each token is normalised by itself, so the others need not be.
            Layer::TokenPool(TokenPool { name: None, pool: Pool::Class }),
            Layer::LayerNorm(layer_norm("norm")),
            linear("head", num_classes, Init::Normal),
        ]
    })
}

fn patches(name: &str, features: i64) -> Layer {
    Layer::Conv2d(Conv2d {
        name: Some(name.into()),
        out_channels: features,
        kernel_size: 16,
        stride: 16,
        padding: 0,
        groups: 1,
        bias: true,
        init: Init::KaimingUniform,
    })
}

/// Attention, then a perceptron for each token, both with a layer norm before them.
fn block(name: &str, features: i64, num_heads: i64, drop: f64) -> Layer {
    let attention = Layer::SelfAttention(SelfAttention {
        name: Some("attn".into()),
        num_heads,
        bias: true,
        dropout: 0.0,
        init: Init::Normal,
    });
    let perceptron = vec![
        linear("fc1", 4 * features, Init::Normal),
        Layer::Gelu(Gelu { name: Some("act".into()), ..Gelu::default() }),
        linear("fc2", features, Init::Normal),
    ];
    let branch = |norm: &str, layer: Layer, drop_path: &str| {
        add("", vec![Layer::LayerNorm(layer_norm(norm)), layer, stochastic_depth(drop_path, drop)])
    };
    sequential(
        name,
        vec![branch("norm1", attention, "drop_path1"), branch("norm2", sequential("mlp", perceptron), "drop_path2")],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Model};

    #[test]
    fn names_and_parameters_are_timms() {
        let model = Model::new((MODELS[0].spec)(&ZooOptions::default()), Dtype::Float32, 0).unwrap();
        assert_eq!(model.summary().parameters, 22_050_664);
        let names: Vec<String> = model.state_dict().unwrap().into_iter().map(|entry| entry.0).collect();
        for name in [
            "cls_token",
            "pos_embed",
            "patch_embed.proj.bias",
            "blocks.0.norm1.weight",
            "blocks.11.attn.qkv.weight",
            "blocks.3.mlp.fc2.bias",
            "norm.bias",
            "head.weight",
        ] {
            assert!(names.iter().any(|found| found == name), "{name}");
        }
    }
}
