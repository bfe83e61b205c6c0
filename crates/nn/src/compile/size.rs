//! Images of another size than the one a model was made for: convolutions and global pooling take any, flattened images and
//! learnt positions only their own.

use super::compile;
use crate::spec::ModelSpec;

impl ModelSpec {
    /// What keeps a model of this spec from reading images `[channels, height, width]`, as the end of an error message;
    /// `None` if it reads them with the parameters that it has.
    pub fn obstacle(&self, image: &[i64]) -> Option<String> {
        if image == self.input_shape {
            return None;
        }
        // A TorchScript module tells nothing of what is in it.
        if image.len() != 3 || image[0] != self.input_shape[0] || self.layers.is_empty() {
            return Some(String::new());
        }
        let resized = Self { input_shape: [image[0], image[1], image[2]], ..self.clone() };
        let (own, other) = match (compile(self), compile(&resized)) {
            (Ok(own), Ok(other)) => (own, other),
            (_, Err(error)) => return Some(format!("; in another size, {error}")),
            (Err(error), _) => return Some(format!("; {error}")),
        };
        let mut pairs = own.0.parameters.iter().zip(&other.0.parameters);
        if let Some((own, other)) = pairs.find(|(own, other)| own.shape != other.shape) {
            let (name, shape) = (&own.name, &own.shape);
            return Some(format!("; in another size, '{name}' would be {:?}, and it is {shape:?}", other.shape));
        }
        (own.1 != other.1).then(|| "; its layers are made for this size".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use crate::zoo::{self, ZooOptions};

    fn obstacle(name: &str, own: i64, size: i64) -> Option<String> {
        let options = ZooOptions { input_shape: Some([3, own, own]), ..ZooOptions::default() };
        zoo::spec(name, &options).unwrap().obstacle(&[3, size, size])
    }

    #[test]
    fn convolutional_nets_with_global_pooling_read_every_size() {
        for name in ["resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0"] {
            for size in [64, 96, 128, 224] {
                assert_eq!(obstacle(name, 128, size), None, "{name} {size}");
            }
        }
        assert_eq!(obstacle("resnet20", 32, 48), None);
    }

    #[test]
    fn what_is_tied_to_a_size_is_named() {
        let positions = obstacle("vit_s_16", 64, 96).unwrap();
        assert!(positions.contains("would be [1, 37, 384]") && positions.contains("is [1, 17, 384]"), "{positions}");
        assert!(obstacle("vit_s_16", 64, 64).is_none());
        let layers = obstacle("convnext_tiny", 128, 64).unwrap();
        assert!(layers.contains("(toImage)"), "{layers}");
        // Another number of patches, a grey image, and nothing at all.
        for image in [&[3, 64, 80][..], &[1, 64, 64], &[3, 64]] {
            let options = ZooOptions { input_shape: Some([3, 64, 64]), ..ZooOptions::default() };
            assert!(zoo::spec("vit_s_16", &options).unwrap().obstacle(image).is_some(), "{image:?}");
        }
    }
}
