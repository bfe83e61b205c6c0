//! Sets from arrays, their views, splits and label noise: what holds for any set.

use std::collections::BTreeSet;

use flatmin_data::{ArrayOptions, Dataset, ImageShape, Pixels, SplitSize, digits};

const SHAPE: ImageShape = ImageShape { height: 1, width: 2, channels: 1 };

/// Image i is (i, i / 2) as bytes and has label i % classes.
fn numbered(count: usize, classes: usize) -> Dataset {
    let pixels = (0..count).flat_map(|i| [i as u8, (i / 2) as u8]).collect();
    let labels = (0..count).map(|i| (i % classes) as u32).collect();
    let options = ArrayOptions { num_classes: Some(classes), ..ArrayOptions::default() };
    Dataset::from_arrays(Pixels::U8(pixels), SHAPE, labels, options).unwrap()
}

/// The numbers of the images in a view of `numbered`.
fn numbers(set: &Dataset) -> Vec<usize> {
    let number = |i| (set.pixels(i).unwrap()[0] * 255.0).round() as usize;
    (0..set.len()).map(number).collect()
}

#[test]
fn splits_are_disjoint_complete_and_follow_the_seed() {
    let set = numbered(101, 10);
    let sizes = [SplitSize::Fraction(0.7), SplitSize::Fraction(0.2), SplitSize::Fraction(0.1)];
    let parts = set.split(&sizes, 3).unwrap();
    assert_eq!(parts.iter().map(Dataset::len).collect::<Vec<_>>(), [71, 20, 10]);
    let all: Vec<usize> = parts.iter().flat_map(numbers).collect();
    assert_eq!(all.len(), 101);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 101);
    for part in &parts {
        for (i, number) in numbers(part).into_iter().enumerate() {
            assert_eq!(part.label(i).unwrap() as usize, number % 10);
        }
    }
    let again = set.split(&sizes, 3).unwrap();
    let other = set.split(&sizes, 4).unwrap();
    assert_eq!(numbers(&parts[0]), numbers(&again[0]));
    assert_ne!(numbers(&parts[0]), numbers(&other[0]));
}

#[test]
fn splits_take_counts_and_the_rest_in_any_place() {
    let set = digits().unwrap();
    let parts = set.split(&[SplitSize::Count(1297), SplitSize::Rest], 0).unwrap();
    assert_eq!((parts[0].len(), parts[1].len()), (1297, 500));
    let parts = set.split(&[SplitSize::Rest, SplitSize::Fraction(0.1), SplitSize::Count(7)], 0).unwrap();
    let sizes: Vec<usize> = parts.iter().map(Dataset::len).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 1797);
    assert_eq!(sizes[2], 7);
    // A view can be split again, and what is not asked for is left out.
    let small = parts[1].split(&[SplitSize::Count(20), SplitSize::Count(30)], 1).unwrap();
    assert_eq!((small[0].len(), small[1].len()), (20, 30));
}

#[test]
fn impossible_splits_are_refused() {
    let set = numbered(10, 2);
    for sizes in [
        &[][..],
        &[SplitSize::Count(11)],
        &[SplitSize::Count(0)],
        &[SplitSize::Count(6), SplitSize::Fraction(0.5)],
        &[SplitSize::Fraction(0.0)],
        &[SplitSize::Fraction(-0.1)],
        &[SplitSize::Fraction(1.5)],
        &[SplitSize::Fraction(f64::NAN)],
        &[SplitSize::Fraction(0.01)],
        &[SplitSize::Count(10), SplitSize::Rest],
        &[SplitSize::Rest, SplitSize::Rest],
        &[SplitSize::Count(usize::MAX)],
    ] {
        let error = set.split(sizes, 0).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION", "{sizes:?}");
    }
}

#[test]
fn label_noise_changes_its_exact_share_and_never_to_the_same_label() {
    let set = digits().unwrap();
    for (fraction, expected) in [(0.0, 0), (0.4, 719), (0.123, 221), (1.0, 1797)] {
        let noisy = set.with_label_noise(fraction, 9).unwrap();
        let wrong = set.labels().iter().zip(noisy.labels()).filter(|(a, b)| a != b);
        assert_eq!(wrong.count(), expected);
        assert!(noisy.labels().iter().all(|&label| label < 10));
        assert_eq!(noisy.pixels(5).unwrap(), set.pixels(5).unwrap());
    }
    let noisy = |seed| set.with_label_noise(0.4, seed).unwrap().labels().to_vec();
    assert_eq!(noisy(1), noisy(1));
    assert_ne!(noisy(1), noisy(2));
}

#[test]
fn label_noise_draws_the_other_classes_alike() {
    let set = numbered(20_000, 5).with_label_noise(1.0, 1).unwrap();
    let mut steps = [0i64; 5];
    for (i, &label) in set.labels().iter().enumerate() {
        steps[(label as usize + 5 - i % 5) % 5] += 1;
    }
    assert_eq!(steps[0], 0);
    // 5,000 each, standard deviation 61.
    assert!(steps[1..].iter().all(|s| (s - 5_000).abs() < 300), "{steps:?}");
}

#[test]
fn label_noise_out_of_range_is_refused() {
    for fraction in [-0.1, 1.1, f64::NAN] {
        let error = numbered(10, 2).with_label_noise(fraction, 0).unwrap_err();
        assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
    }
    let error = numbered(10, 1).with_label_noise(0.5, 0).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_DATA");
}

#[test]
fn take_gives_the_first_images() {
    let set = numbered(10, 2);
    assert_eq!(numbers(&set.take(3).unwrap()), [0, 1, 2]);
    assert_eq!(set.take(99).unwrap().len(), 10);
    assert_eq!(set.take(0).unwrap_err().code(), "ERR_FLATMIN_OPTION");
    assert_eq!(set.label(10).unwrap_err().code(), "ERR_FLATMIN_OPTION");
    assert_eq!(set.pixels(10).unwrap_err().code(), "ERR_FLATMIN_OPTION");
}

#[test]
fn describe_counts_every_class_and_serialises() {
    let set = numbered(7, 3).take(4).unwrap();
    let description = serde_json::to_value(set.describe()).unwrap();
    assert_eq!(description["count"], 4);
    assert_eq!(description["numClasses"], 3);
    assert_eq!(description["dtype"], "uint8");
    assert_eq!(description["shape"]["width"], 2);
    let counts: Vec<_> = description["classes"].as_array().unwrap().iter().collect();
    assert_eq!(counts[0]["count"], 2);
    assert_eq!(counts[2]["name"], "2");
}

#[test]
fn class_names_are_given_or_made_up() {
    let pixels = || Pixels::F32(vec![0.5; 6]);
    let make = |options| Dataset::from_arrays(pixels(), SHAPE, vec![0, 2, 1], options);
    let set = make(ArrayOptions::default()).unwrap();
    assert_eq!(set.class_names(), ["0", "1", "2"]);
    let names: Vec<String> = ["ant", "bee", "cat", "dog"].map(str::to_owned).into();
    let named = ArrayOptions { class_names: Some(names.clone()), name: Some("animals".to_owned()), num_classes: None };
    let set = make(named.clone()).unwrap();
    assert_eq!((set.name(), set.num_classes()), ("animals", 4));
    let disagree = ArrayOptions { num_classes: Some(3), ..named };
    assert_eq!(make(disagree).unwrap_err().code(), "ERR_FLATMIN_OPTION");
}

#[test]
fn arrays_that_make_no_set_are_refused_with_what_is_wrong() {
    let make = |pixels, labels, num_classes| {
        let options = ArrayOptions { num_classes, ..ArrayOptions::default() };
        let error = Dataset::from_arrays(pixels, SHAPE, labels, options).unwrap_err();
        (error.code(), error.to_string())
    };
    let (code, _) = make(Pixels::U8(vec![]), vec![], None);
    assert_eq!(code, "ERR_FLATMIN_DATA");
    let (code, message) = make(Pixels::U8(vec![0; 5]), vec![0, 1], None);
    assert_eq!(code, "ERR_FLATMIN_SHAPE");
    assert!(message.contains("5 values") && message.contains("2 * 1 * 2 * 1"), "{message}");
    let (code, message) = make(Pixels::U8(vec![0; 4]), vec![0, 7], Some(3));
    assert_eq!(code, "ERR_FLATMIN_DATA");
    assert!(message.contains("label 1 is 7") && message.contains("0 to 2"), "{message}");
    let (code, message) = make(Pixels::F32(vec![0.0, 1.0, f32::NAN, 0.0]), vec![0, 1], None);
    assert_eq!(code, "ERR_FLATMIN_DATA");
    assert!(message.contains("image 1"), "{message}");
    // A label that is no class number must not make four thousand million class names.
    let (code, _) = make(Pixels::U8(vec![0; 4]), vec![0, u32::MAX], None);
    assert_eq!(code, "ERR_FLATMIN_DATA");
}

#[test]
fn shapes_without_pixels_or_beyond_memory_are_refused() {
    for side in [0, usize::MAX] {
        let shape = ImageShape { height: side, width: 2, channels: 1 };
        let pixels = Pixels::U8(vec![]);
        let error = Dataset::from_arrays(pixels, shape, vec![0], ArrayOptions::default());
        assert_eq!(error.unwrap_err().code(), "ERR_FLATMIN_SHAPE");
    }
}
