//! From the loader's buffers to tensors: channels-last images without a second copy, labels as they are.

use flatmin_data::{Batch, ImageShape, Images};
use flatmin_nn::Model;
use flatmin_torch_ext::channels_last;
use flatmin_torch_ext::cuda::{Upload, Uploader};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// `[batch, channels, height, width]` on a device, channels lying last in memory as the buffer has them.
pub fn image_tensor(images: &Images, shape: ImageShape, device: Device) -> Result<Tensor> {
    let uploader = Uploader::new(device, None);
    as_images(uploader.end(upload(&uploader, images)?)?, shape)
}

/// Begins to bring the pixels of a batch to a device; the buffer is free again at once.
pub fn upload(uploader: &Uploader, images: &Images) -> Result<Upload> {
    Ok(match images {
        Images::F32(values) => uploader.begin(values),
        Images::Bf16(values) => uploader.begin(values),
        Images::U8(values) => uploader.begin(values),
    }?)
}

/// What [`image_tensor`] makes of pixels that are there.
pub fn as_images(pixels: Tensor, shape: ImageShape) -> Result<Tensor> {
    let [height, width, channels] = [shape.height, shape.width, shape.channels].map(|size| size as i64);
    // tch takes bfloat16 values for float16 ones.
    let pixels = if pixels.kind() == Kind::Half { pixels.f_view_dtype(Kind::BFloat16)? } else { pixels };
    Ok(pixels.f_view([-1, height, width, channels])?.f_permute([0, 3, 1, 2])?)
}

/// As [`image_tensor`], in the dtype and on the device that a model's `input_options` tell.
pub fn input_tensor(images: &Images, shape: ImageShape, (kind, device): (Kind, Device)) -> Result<Tensor> {
    Ok(image_tensor(images, shape, device)?.f_to_kind(kind)?)
}

/// Class numbers `[batch]`, which are checked before they leave the CPU.
pub fn class_tensor(batch: &Batch) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(&batch.labels)?)
}

/// A caller's images as a model reads them: its dtype and device, channels lying last. No copy if they are so already.
///
/// # Errors
/// `ERR_FLATMIN_SHAPE` unless `images` is `[batch, channels, height, width]` of a size that the model reads,
/// `ERR_FLATMIN_DTYPE` unless it is float32, float64 or bfloat16.
pub fn model_images(images: &Tensor, model: &Model) -> Result<Tensor> {
    check_images(images, model)?;
    if !matches!(images.kind(), Kind::Float | Kind::Double | Kind::BFloat16) {
        let expected = "float32, float64 or bfloat16, normalised".to_owned();
        return Err(Error::Dtype { what: "images".into(), found: format!("{:?}", images.kind()), expected });
    }
    let (kind, device) = model.input_options();
    Ok(channels_last(&images.f_to_device(device)?.f_to_kind(kind)?)?)
}

/// # Errors
/// `ERR_FLATMIN_SHAPE` unless `images` is `[batch, channels, height, width]` of a size that the model reads.
pub fn check_images(images: &Tensor, model: &Model) -> Result<()> {
    let [channels, height, width] = model.spec().input_shape;
    let size = images.size();
    match model.obstacle(size.get(1..).unwrap_or_default()) {
        Some(obstacle) => {
            Err(Error::shape("images", &size, format!("[batch, {channels}, {height}, {width}]{obstacle}")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_lie_last_and_values_are_in_their_place() {
        let shape = ImageShape { height: 2, width: 3, channels: 2 };
        let pixels: Vec<f32> = (0..24).map(|value| value as f32).collect();
        let images = image_tensor(&Images::F32(pixels.clone()), shape, Device::Cpu).unwrap();
        assert_eq!(images.size(), [2, 2, 2, 3]);
        assert_eq!(images.stride(), [12, 1, 6, 2]);
        // Image 1, channel 0, row 1, column 2 lies at ((1 * 2 + 1) * 3 + 2) * 2 of the buffer.
        assert_eq!(images.double_value(&[1, 0, 1, 2]), 22.0);
        let bytes = Images::U8(pixels.iter().map(|&value| value as u8).collect());
        assert_eq!(image_tensor(&bytes, shape, Device::Cpu).unwrap(), images.to_kind(Kind::Uint8));
        let half = Images::Bf16(pixels.iter().map(|&value| half::bf16::from_f32(value)).collect());
        assert_eq!(image_tensor(&half, shape, Device::Cpu).unwrap(), images.to_kind(Kind::BFloat16));
    }
}
