//! Image files: formats, proportions, orientation, and files that are no images.

use std::io::Cursor;

use flatmin_data::{ImageShape, ImageSource, decode_image};
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ImageEncoder, ImageFormat, Rgb, RgbImage};

fn shape(height: usize, width: usize, channels: usize) -> ImageShape {
    ImageShape { height, width, channels }
}

/// Red grows to the right, green downwards; blue is constant.
fn ramp(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 8) as u8, (y * 8) as u8, 77]))
}

fn encode(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

#[test]
fn lossless_formats_come_back_exactly_and_jpeg_nearly() {
    let picture = ramp(8, 8);
    let expected: Vec<f32> = picture.as_raw().iter().map(|&v| f32::from(v) / 255.0).collect();
    for (format, tolerance) in [(ImageFormat::Png, 0.0), (ImageFormat::WebP, 0.0), (ImageFormat::Jpeg, 0.1)] {
        let bytes = encode(&picture, format);
        let decoded = decode_image(ImageSource::Bytes(&bytes)).unwrap();
        assert_eq!((decoded.width(), decoded.height()), (8, 8));
        let pixels = decoded.resize(shape(8, 8, 3)).unwrap();
        assert_eq!(pixels.len(), expected.len());
        let far = pixels.iter().zip(&expected).any(|(a, b)| (a - b).abs() > tolerance);
        assert!(!far, "{format:?}");
    }
}

#[test]
fn a_file_is_read_by_its_contents_whatever_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("picture.jpg");
    std::fs::write(&path, encode(&ramp(4, 4), ImageFormat::Png)).unwrap();
    assert_eq!(decode_image(&path).unwrap().width(), 4);
}

#[test]
fn the_centre_is_kept_and_proportions_too() {
    // 24 wide, 8 high: the middle 8 columns remain.
    let bytes = encode(&ramp(24, 8), ImageFormat::Png);
    let wide = decode_image(ImageSource::Bytes(&bytes)).unwrap();
    let pixels = wide.resize(shape(8, 8, 3)).unwrap();
    let red: Vec<u32> = pixels[..24].iter().step_by(3).map(|v| (v * 255.0).round() as u32).collect();
    assert_eq!(red, [64, 72, 80, 88, 96, 104, 112, 120]);
    // An image of one row has no 32 x 32 part; one pixel is the least that is scaled.
    let bytes = encode(&ramp(30, 1), ImageFormat::Png);
    let line = decode_image(ImageSource::Bytes(&bytes)).unwrap();
    assert_eq!(line.resize(shape(32, 32, 3)).unwrap().len(), 32 * 32 * 3);
}

#[test]
fn scaling_down_averages_what_it_covers() {
    let checks = RgbImage::from_fn(32, 32, |x, y| Rgb([if (x + y) % 2 == 0 { 0 } else { 255 }; 3]));
    let bytes = encode(&checks, ImageFormat::Png);
    let small = decode_image(ImageSource::Bytes(&bytes)).unwrap().resize(shape(4, 4, 3)).unwrap();
    assert!(small.iter().all(|v| (v - 0.5).abs() < 0.02), "{small:?}");
}

#[test]
fn grey_and_colour_turn_into_each_other() {
    let grey = DynamicImage::ImageRgb8(ramp(4, 4)).into_luma8();
    let mut bytes = Cursor::new(Vec::new());
    grey.write_to(&mut bytes, ImageFormat::Png).unwrap();
    let decoded = decode_image(ImageSource::Bytes(bytes.get_ref())).unwrap();
    let one = decoded.resize(shape(4, 4, 1)).unwrap();
    let three = decoded.resize(shape(4, 4, 3)).unwrap();
    let expected: Vec<f32> = grey.as_raw().iter().map(|&v| f32::from(v) / 255.0).collect();
    assert_eq!(one, expected);
    assert!(three.chunks_exact(3).zip(&one).all(|(rgb, grey)| rgb == [*grey; 3]));
    for bad in [shape(4, 4, 2), shape(0, 4, 3), shape(4, 1 << 20, 3)] {
        assert_eq!(decoded.resize(bad).unwrap_err().code(), "ERR_FLATMIN_SHAPE");
    }
}

#[test]
fn photographs_are_turned_upright() {
    // EXIF, little-endian: one entry, orientation (0x0112), short, 6 = turn right by 90 degrees.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let picture = ramp(6, 4);
    let mut bytes = Vec::new();
    let mut encoder = PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif).unwrap();
    encoder.write_image(picture.as_raw(), 6, 4, image::ExtendedColorType::Rgb8).unwrap();
    let upright = decode_image(ImageSource::Bytes(&bytes)).unwrap();
    assert_eq!((upright.width(), upright.height()), (4, 6));
    // What was bottom left is now top left.
    let first = &upright.resize(shape(6, 4, 3)).unwrap()[..2];
    assert_eq!(first, [0.0, 24.0 / 255.0]);
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.png");
    assert_eq!(decode_image(&path).unwrap_err().code(), "ERR_FLATMIN_PATH");
    let whole = encode(&ramp(16, 16), ImageFormat::Png);
    for bytes in [&b""[..], b"hello, I am text", b"GIF89a\x01\0\x01\0", &whole[..whole.len() / 2]] {
        std::fs::write(&path, bytes).unwrap();
        let error = decode_image(&path).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_FORMAT");
        let text = error.to_string();
        assert!(text.contains("notes.png") && text.contains("PNG, JPEG and WebP"), "{text}");
    }
}

#[test]
fn an_image_that_claims_to_be_huge_is_refused_without_its_memory() {
    // A PNG header that says 60000 x 60000; the checksum of the header is right, data there is none.
    let mut bytes = encode(&ramp(1, 1), ImageFormat::Png);
    bytes[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
    let crc = crc32(&bytes[12..29]).to_be_bytes();
    bytes[29..33].copy_from_slice(&crc);
    let error = decode_image(ImageSource::Bytes(&bytes)).unwrap_err();
    assert!(error.to_string().to_lowercase().contains("limit"), "{error}");
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
