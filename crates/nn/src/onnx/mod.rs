//! Models as ONNX files, for programs that run nets without libtorch. The graph is that of evaluation: committed running
//! statistics, no dropout, expectations of what training draws at random. Weights are float32 under their names in the state
//! dict; class names, normalisation and the model's spec are metadata.

mod graph;
mod nodes;
mod proto;

use std::io::Write;
use std::path::Path;

use prost::Message;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::weight_file::{SPEC_KEY, write_whole};
use graph::Graph;
use proto::{IR_VERSION, ModelProto, OperatorSetIdProto, StringStringEntryProto};

/// The operators of ONNX that files use: the first set with layer normalisation.
pub const ONNX_OPSET: i64 = 17;

/// protobuf's own limit for a message.
const LARGEST_FILE: usize = i32::MAX as usize;

impl Model {
    /// Writes the model as ONNX: input `images` `[batch, channels, height, width]`, output `logits` `[batch, numClasses]`,
    /// for batches of any size. A file that is already there is replaced at the end, in one step.
    ///
    /// # Errors
    /// `ERR_FLATMIN_OPTION` for a TorchScript model, whose operations are its own program's; `ERR_FLATMIN_PATH` if the file
    /// cannot be written. An old file is then as it was.
    pub fn export_onnx(&self, path: &Path) -> Result<()> {
        let model = self.onnx()?;
        let len = model.encoded_len();
        if len > LARGEST_FILE {
            let reason = format!("the model has {len} bytes, and an ONNX file may have {LARGEST_FILE}");
            return Err(Error::format(path, reason));
        }
        write_whole(path, |file| file.write_all(&model.encode_to_vec()))
            .map_err(|error| Error::io("write", path, error))
    }

    fn onnx(&self) -> Result<ModelProto> {
        let Some(layers) = self.layers() else {
            let expected = "a model of layers; export TorchScript from PyTorch, with torch.onnx.export";
            return Err(Error::option("the model to export as ONNX", "a TorchScript module (torchScript)", expected));
        };
        let mut graph = Graph::new(self)?;
        let images = graph.images();
        let logits = nodes::run(layers, images, &mut graph)?;
        Ok(ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("flatmin".into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            graph: Some(graph.finish(&logits)),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(ONNX_OPSET) }],
            metadata_props: self.onnx_metadata()?,
        })
    }

    /// JSON by keys: `classNames`, `mean` and `std` as far as the model knows them, and the whole spec.
    fn onnx_metadata(&self) -> Result<Vec<StringStringEntryProto>> {
        let spec = self.spec();
        let list = |key: &str, value: serde_json::Value| (key.to_owned(), value.to_string());
        let mut entries = vec![(SPEC_KEY.to_owned(), spec.to_json()?)];
        entries.extend(spec.class_names.as_ref().map(|names| list("classNames", names.clone().into())));
        if let Some(normalization) = &spec.normalization {
            entries.push(list("mean", normalization.mean.clone().into()));
            entries.push(list("std", normalization.std.clone().into()));
        }
        let entry = |(key, value)| StringStringEntryProto { key: Some(key), value: Some(value) };
        Ok(entries.into_iter().map(entry).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tch::Kind;

    use super::proto::{FLOAT, Size};
    use super::*;
    use crate::dtype::Dtype;
    use crate::zoo::{self, ZooOptions};

    fn model(name: &str) -> Model {
        Model::new(zoo::spec(name, &ZooOptions::default()).unwrap(), Dtype::Float32, 1).unwrap()
    }

    #[test]
    fn every_model_of_the_zoo_becomes_a_graph_in_order() {
        for name in zoo::names() {
            let spec = zoo::spec(name, &ZooOptions::default()).unwrap();
            let graph = Model::without_values(spec, Dtype::Float32).unwrap().onnx().unwrap().graph.unwrap();
            let mut known: HashSet<_> = graph.initializer.iter().map(|tensor| tensor.name.clone().unwrap()).collect();
            known.insert("images".into());
            for node in &graph.node {
                for input in &node.input {
                    assert!(known.contains(input), "{name}: {:?} reads {input} before it is there", node.name);
                }
                assert!(node.output.iter().all(|output| known.insert(output.clone())), "{name}: {:?}", node.name);
            }
            assert!(known.contains("logits"), "{name}");
        }
    }

    #[test]
    fn weights_keep_names_shapes_and_values() {
        let model = model("resnet20");
        let graph = model.onnx().unwrap().graph.unwrap();
        for (name, tensor) in model.state_dict().unwrap() {
            if name.ends_with("num_batches_tracked") {
                continue;
            }
            let written = graph.initializer.iter().find(|entry| entry.name.as_ref() == Some(&name)).unwrap();
            assert_eq!((&written.dims, written.data_type), (&tensor.size(), Some(FLOAT)), "{name}");
            let bytes = written.raw_data.as_ref().unwrap();
            let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            let expected: Vec<f32> = tensor.to_kind(Kind::Float).flatten(0, -1).try_into().unwrap();
            assert_eq!(values, expected, "{name}");
        }
    }

    #[test]
    fn the_batch_is_open_and_metadata_says_what_images_need() {
        let mut spec = zoo::spec("resnet20", &ZooOptions::default()).unwrap();
        spec.class_names = Some((0..10).map(|class| format!("class {class}")).collect());
        spec.normalization = Some(crate::Normalization { mean: vec![0.5; 3], std: vec![0.25; 3] });
        let proto = Model::new(spec, Dtype::Float32, 1).unwrap().onnx().unwrap();
        let input = &proto.graph.as_ref().unwrap().input[0];
        let shape = input.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
        let sizes: Vec<_> = shape.dim.iter().map(|dim| dim.value.clone().unwrap()).collect();
        assert_eq!(sizes[0], Size::DimParam("batch".into()));
        assert_eq!(sizes[1..], [Size::DimValue(3), Size::DimValue(32), Size::DimValue(32)]);
        let of = |key: &str| {
            let entry = proto.metadata_props.iter().find(|entry| entry.key.as_deref() == Some(key)).unwrap();
            serde_json::from_str::<serde_json::Value>(entry.value.as_ref().unwrap()).unwrap()
        };
        assert_eq!(of("classNames")[9], "class 9");
        assert_eq!((of("mean"), of("std")), (vec![0.5; 3].into(), vec![0.25; 3].into()));
        assert_eq!(of(SPEC_KEY)["name"], "resnet20");
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let model = model("demo");
        let path = folder.path().join("net.onnx");
        model.export_onnx(&path).unwrap();
        let read = ModelProto::decode(std::fs::read(&path).unwrap().as_slice()).unwrap();
        assert_eq!(read, model.onnx().unwrap());
        let missing = model.export_onnx(&folder.path().join("nowhere").join("net.onnx")).unwrap_err();
        assert_eq!(missing.code(), "ERR_FLATMIN_PATH");
    }
}
