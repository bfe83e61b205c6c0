//! The loader: same batches from any number of threads, resume, early end, bad options.

mod common;

use common::hash;
use flatmin_data::{
    ArrayOptions, Batch, Crop, Dataset, Format, ImageShape, Images, Loader, LoaderOptions, Pixels, RandomErasing,
    Transform, digits,
};

fn options(set: &Dataset, threads: usize) -> LoaderOptions {
    LoaderOptions {
        batch_size: 32,
        shuffle: true,
        seed: 11,
        threads,
        prefetch: 5,
        transform: Transform { crop: Crop::Pad(2), flip: true, ..Transform::plain(set.normalization().clone()) },
        ..LoaderOptions::new(Transform::plain(set.normalization().clone()))
    }
}

fn loader(threads: usize, change: impl Fn(&mut LoaderOptions)) -> Loader {
    let set = digits().unwrap();
    let mut options = options(&set, threads);
    change(&mut options);
    Loader::new(set, options).unwrap()
}

fn hashes(loader: &Loader, epoch: u64, start_batch: usize) -> Vec<u64> {
    let batches = loader.epoch(epoch, start_batch);
    batches
        .map(|batch| {
            let batch = batch.unwrap();
            let hash = hash(&batch);
            loader.recycle(batch);
            hash
        })
        .collect()
}

#[test]
fn any_number_of_threads_gives_the_same_batches() {
    let expected = hashes(&loader(0, |_| ()), 4, 0);
    assert_eq!(expected.len(), 57);
    for threads in [1, 2, 7] {
        let loader = loader(threads, |_| ());
        assert_eq!(hashes(&loader, 4, 0), expected, "{threads} threads");
        // Once more, now with recycled buffers from the first time.
        assert_eq!(hashes(&loader, 4, 0), expected, "{threads} threads, recycled");
    }
    for prefetch in [0, 1, 50] {
        let loader = loader(3, |o| o.prefetch = prefetch);
        assert_eq!(hashes(&loader, 4, 0), expected, "prefetch {prefetch}");
    }
}

#[test]
fn bytes_keep_what_is_stored_and_pad_with_black() {
    for crop in [Crop::Centre, Crop::Pad(2)] {
        let transform = |set: &Dataset| Transform { crop, ..Transform::plain(set.normalization().clone()) };
        let batch = |format, threads| {
            let set = digits().unwrap();
            let options = LoaderOptions { format, threads, ..LoaderOptions::new(transform(&set)) };
            Loader::new(set, options).unwrap().epoch(3, 4).next().unwrap().unwrap()
        };
        let bytes = batch(Format::U8, 0);
        for threads in [1, 2, 7] {
            assert_eq!(batch(Format::U8, threads), bytes);
        }
        let (Images::U8(bytes), Images::F32(single)) = (bytes.images, batch(Format::F32, 0).images) else { panic!() };
        let set = digits().unwrap();
        let (mean, std) = (set.normalization().mean[0], set.normalization().std[0]);
        for (byte, value) in bytes.iter().zip(single) {
            // Digits are stored from 0 to 16.
            let sixteenths = ((value * std + mean) * 16.0).round();
            assert_eq!(*byte, (sixteenths * 255.0 / 16.0).round() as u8);
        }
    }
}

#[test]
fn resuming_gives_what_the_whole_epoch_gives_there() {
    let whole = hashes(&loader(2, |_| ()), 1, 0);
    for threads in [0, 1, 3] {
        let loader = loader(threads, |_| ());
        for start in [1, 20, 56] {
            assert_eq!(hashes(&loader, 1, start), whole[start..]);
        }
        assert_eq!(loader.epoch(1, 57).count(), 0);
        let mut beyond = loader.epoch(1, 58);
        assert_eq!(beyond.next().unwrap().unwrap_err().code(), "ERR_FLATMIN_OPTION");
        assert!(beyond.next().is_none());
    }
}

#[test]
fn epochs_and_seeds_differ() {
    let one = loader(1, |_| ());
    let other = loader(1, |o| o.seed = 12);
    let first = hashes(&one, 0, 0);
    assert_ne!(hashes(&one, 1, 0), first);
    assert_ne!(hashes(&other, 0, 0), first);
}

/// 25 images whose only pixel is their number.
fn numbered(change: impl Fn(&mut LoaderOptions)) -> Loader {
    let shape = ImageShape { height: 1, width: 1, channels: 1 };
    let pixels = Pixels::F32((0..25).map(|i| i as f32).collect());
    let labels = (0..25).collect();
    let set = Dataset::from_arrays(pixels, shape, labels, ArrayOptions::default()).unwrap();
    let identity = flatmin_data::Normalization::identity(1);
    let mut options = LoaderOptions { batch_size: 10, ..LoaderOptions::new(Transform::plain(identity)) };
    change(&mut options);
    Loader::new(set, options).unwrap()
}

#[test]
fn an_epoch_shows_each_image_once_with_its_label() {
    for shuffle in [false, true] {
        let loader = numbered(|o| o.shuffle = shuffle);
        let batches: Vec<Batch> = loader.epoch(0, 0).map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(|b| b.count).collect::<Vec<_>>(), [10, 10, 5]);
        let mut seen: Vec<i64> = Vec::new();
        for batch in &batches {
            let Images::F32(pixels) = &batch.images else { panic!("{batch:?}") };
            let pixels: Vec<i64> = pixels.iter().map(|&v| v as i64).collect();
            assert_eq!(pixels, batch.labels);
            seen.extend(&batch.labels);
        }
        let in_order: Vec<i64> = (0..25).collect();
        assert_eq!(seen == in_order, !shuffle);
        seen.sort_unstable();
        assert_eq!(seen, in_order);
    }
}

#[test]
fn drop_last_leaves_out_the_batch_that_is_not_full() {
    let loader = numbered(|o| o.drop_last = true);
    assert_eq!(loader.len(), 2);
    assert!(loader.epoch(0, 0).all(|b| b.unwrap().count == 10));
}

#[test]
fn a_batch_after_a_longer_recycled_one_has_its_own_size() {
    let loader = numbered(|o| o.threads = 0);
    for _ in 0..3 {
        for (batch, count) in loader.epoch(0, 0).zip([10, 10, 5]) {
            let batch = batch.unwrap();
            assert_eq!((batch.count, batch.images.len(), batch.labels.len()), (count, count, count));
            loader.recycle(batch);
        }
    }
}

#[test]
fn dropping_an_epoch_in_its_middle_does_not_hang() {
    for threads in [1, 2, 7] {
        let loader = loader(threads, |_| ());
        for taken in [0, 1, 10] {
            let mut epoch = loader.epoch(0, 0);
            epoch.by_ref().take(taken).for_each(|batch| drop(batch.unwrap()));
            drop(epoch);
        }
    }
}

#[test]
fn several_epochs_and_loaders_run_side_by_side() {
    let (one, two) = (loader(2, |_| ()), loader(3, |o| o.seed = 5));
    let (expected_one, expected_two) = (hashes(&one, 0, 0), hashes(&two, 0, 0));
    let mut both = one.epoch(0, 0).zip(two.epoch(0, 0)).zip(one.epoch(0, 0));
    for at in 0..57 {
        let ((a, b), c) = both.next().unwrap();
        assert_eq!(hash(&a.unwrap()), expected_one[at]);
        assert_eq!(hash(&b.unwrap()), expected_two[at]);
        assert_eq!(hash(&c.unwrap()), expected_one[at]);
    }
}

#[test]
fn an_epoch_outlives_its_loader() {
    let loader = loader(2, |_| ());
    let epoch = loader.epoch(0, 0);
    drop(loader);
    assert_eq!(epoch.map(Result::unwrap).count(), 57);
}

#[test]
fn bad_options_are_refused_by_name() {
    let set = digits().unwrap();
    let refuse = |name: &str, change: &dyn Fn(&mut LoaderOptions)| {
        let mut options = options(&set, 1);
        change(&mut options);
        let error = Loader::new(set.clone(), options).err().unwrap();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
        assert!(error.to_string().starts_with(name), "{error}");
    };
    refuse("batchSize", &|o| o.batch_size = 0);
    refuse("batchSize", &|o| (o.batch_size, o.drop_last) = (2_000, true));
    refuse("loaderThreads", &|o| o.threads = 100_000);
    refuse("prefetch", &|o| o.prefetch = usize::MAX);
    refuse("padCrop", &|o| o.transform.crop = Crop::Pad(8));
    refuse("normalization.std", &|o| o.transform.normalization.std[0] = 0.0);
}

/// A set of colours, of which 255 is white.
fn colours() -> Dataset {
    let shape = ImageShape { height: 6, width: 5, channels: 3 };
    let pixels = (0..40 * shape.elements()).map(|index| (index * 37 % 251) as u8).collect();
    Dataset::from_arrays(Pixels::U8(pixels), shape, vec![0; 40], ArrayOptions::default()).unwrap()
}

#[test]
fn bytes_that_are_normalised_later_are_the_same_batches() {
    let set = colours();
    let normalised = Loader::new(set.clone(), options(&set, 1)).unwrap();
    let bytes = normalised.as_bytes().unwrap().unwrap();
    assert_eq!(bytes.format(), Format::U8);
    let (gain, bias) = set.normalization().gain_and_bias(255.0);
    for (expected, found) in normalised.epoch(2, 0).zip(bytes.epoch(2, 0)) {
        let (expected, found) = (expected.unwrap(), found.unwrap());
        let Images::U8(values) = found.images else { panic!("no bytes") };
        let values = values.iter().enumerate().map(|(at, &value)| f32::from(value) * gain[at % 3] + bias[at % 3]);
        assert_eq!((expected.images, expected.labels), (Images::F32(values.collect()), found.labels));
    }
}

#[test]
fn batches_that_are_no_bytes_are_not_made_such() {
    let bytes = |set: Dataset, change: &dyn Fn(&mut LoaderOptions)| {
        let mut options = options(&set, 0);
        change(&mut options);
        Loader::new(set, options).unwrap().as_bytes().unwrap().is_some()
    };
    assert!(bytes(colours(), &|_| ()));
    // What is blanked has the mean, which is no byte.
    assert!(!bytes(colours(), &|options| options.transform.cutout = Some(2)));
    assert!(!bytes(colours(), &|options| options.transform.erasing = Some(RandomErasing::default())));
    assert!(!bytes(colours(), &|options| options.format = Format::U8));
    // 16 is white.
    assert!(!bytes(digits().unwrap(), &|_| ()));
}
