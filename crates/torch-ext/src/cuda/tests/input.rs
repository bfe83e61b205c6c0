//! Augmentation on the device, against each step written out; that the draws are the loader's is tested where both are at hand,
//! in `flatmin-train`.

use super::*;

const SHAPE: [i64; 3] = [5, 4, 3];
const IMAGES: i64 = 6;

fn set() -> (Images, Tensor) {
    let len = IMAGES * SHAPE.iter().product::<i64>();
    let bytes: Vec<u8> = (0..len).map(|index| (index * 37 % 251) as u8).collect();
    let [height, width, channels] = SHAPE;
    let pixels = Tensor::from_slice(&bytes).reshape([IMAGES, height, width, channels]);
    let labels = Tensor::arange(IMAGES, (Kind::Int64, Device::Cpu)) * 10;
    let (gain, bias) = ([0.01, 0.02, 0.04], [-0.5, -1.0, 0.25]);
    (Images::new(&Place::twin(), &pixels, &labels, &gain, &bias).unwrap(), pixels)
}

/// One batch: `[batch, height, width, channels]` and labels.
fn batch(images: &Images, feed: &mut Feed, augmentation: Augmentation, size: i64, kind: Kind) -> (Tensor, Tensor) {
    let [height, width, channels] = SHAPE;
    let out = Tensor::zeros([size, height, width, channels], (kind, Device::Cpu));
    let labels = Tensor::zeros([size], (Kind::Int64, Device::Cpu));
    images.next_batch(&Place::twin(), feed, augmentation, &out, &labels).unwrap();
    (out, labels)
}

#[test]
fn without_augmentation_images_are_normalised_in_order() {
    let (images, pixels) = set();
    let gain = Tensor::from_slice(&[0.01f32, 0.02, 0.04]);
    let bias = Tensor::from_slice(&[-0.5f32, -1.0, 0.25]);
    let expected = pixels.to_kind(Kind::Float) * gain + bias;
    for kind in [Kind::Float, Kind::BFloat16] {
        let mut feed = Feed::new(&Place::twin(), images.len(), 1).unwrap();
        let (first, labels) = batch(&images, &mut feed, Augmentation::default(), 4, kind);
        assert_eq!(first, expected.narrow(0, 0, 4).to_kind(kind));
        assert_eq!(doubles(&labels), [0.0, 10.0, 20.0, 30.0]);
        // The feed has moved on; behind its end there is nothing.
        let (second, labels) = batch(&images, &mut feed, Augmentation::default(), 4, kind);
        assert_eq!(second.narrow(0, 0, 2), expected.narrow(0, 4, 2).to_kind(kind));
        assert_eq!(second.narrow(0, 2, 2).abs().max().double_value(&[]), 0.0);
        assert_eq!(doubles(&labels), [40.0, 50.0, -1.0, -1.0]);
    }
}

#[test]
fn an_epoch_has_its_own_order_and_its_own_augmentation() {
    let (images, _) = set();
    let augmentation = Augmentation { padding: 2, flip: true, cutout: 2 };
    let mut feed = Feed::new(&Place::twin(), images.len(), 9).unwrap();
    let mut show = |epoch, order: [i32; 6]| {
        feed.begin(epoch, 0, &Tensor::from_slice(&order)).unwrap();
        batch(&images, &mut feed, augmentation, IMAGES, Kind::Float)
    };
    let (in_order, labels) = show(3, [0, 1, 2, 3, 4, 5]);
    assert_eq!(doubles(&labels), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
    let (reversed, labels) = show(3, [5, 4, 3, 2, 1, 0]);
    assert_eq!(doubles(&labels), [50.0, 40.0, 30.0, 20.0, 10.0, 0.0]);
    // An image looks the same wherever in the epoch it stands.
    assert_eq!(reversed, in_order.flip([0]));
    assert_ne!(show(4, [0, 1, 2, 3, 4, 5]).0, in_order);
}

#[test]
fn crops_flips_and_squares_come_in_all_forms() {
    let (images, _) = set();
    let mut seen = std::collections::HashSet::new();
    for epoch in 0..400 {
        let mut feed = Feed::new(&Place::twin(), images.len(), 9).unwrap();
        feed.begin(epoch, 0, &Tensor::arange(IMAGES, (Kind::Int, Device::Cpu))).unwrap();
        let augmentation = Augmentation { padding: 1, flip: true, cutout: 0 };
        let (shown, _) = batch(&images, &mut feed, augmentation, 1, Kind::Float);
        seen.insert(doubles(&shown).iter().map(|value| value.to_bits()).collect::<Vec<_>>());
    }
    // Three rows, three columns, two sides.
    assert_eq!(seen.len(), 18);
    let mut sizes = std::collections::BTreeSet::new();
    for epoch in 0..200 {
        let mut feed = Feed::new(&Place::twin(), images.len(), 9).unwrap();
        feed.begin(epoch, 1, &Tensor::arange(IMAGES, (Kind::Int, Device::Cpu))).unwrap();
        let augmentation = Augmentation { cutout: 2, ..Augmentation::default() };
        let (shown, _) = batch(&images, &mut feed, augmentation, 1, Kind::Float);
        let blank = shown.abs().sum_dim_intlist([3i64].as_slice(), false, Kind::Float).eq(0.0).sum(Kind::Int64);
        sizes.insert(blank.int64_value(&[]));
    }
    assert_eq!((sizes.first(), sizes.last()), (Some(&1), Some(&4)));
}

#[test]
fn what_is_no_set_is_refused() {
    let place = Place::twin();
    let pixels = Tensor::zeros([2, 5, 4, 5], (Kind::Uint8, Device::Cpu));
    let labels = Tensor::zeros([2], (Kind::Int64, Device::Cpu));
    assert!(Images::new(&place, &pixels, &labels, &[1.0; 5], &[0.0; 5]).is_err());
    let pixels = pixels.narrow(3, 0, 3);
    assert!(Images::new(&place, &pixels, &labels, &[1.0; 2], &[0.0; 3]).is_err());
    assert!(Images::new(&place, &pixels, &labels.narrow(0, 0, 1), &[1.0; 3], &[0.0; 3]).is_err());
    let images = Images::new(&place, &pixels, &labels, &[1.0; 3], &[0.0; 3]).unwrap();
    let mut feed = Feed::new(&place, 2, 0).unwrap();
    let out = Tensor::zeros([2, 5, 4, 3], (Kind::Float, Device::Cpu));
    let wide = Augmentation { padding: 4, ..Augmentation::default() };
    let error = images.next_batch(&place, &mut feed, wide, &out, &labels).unwrap_err();
    assert!(error.to_string().contains("less than both sides"), "{error}");
}
