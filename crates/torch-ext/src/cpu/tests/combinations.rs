//! Linear combinations, 16 bits on either side, masks and state arenas, against their formulas.

use half::{bf16, f16};

use super::*;

fn tensor(len: usize, salt: usize) -> Tensor {
    Tensor::from_slice(&(0..len).map(|i| number(i, salt)).collect::<Vec<_>>())
}

/// Two groups, one segment each, and a segment without a gradient.
fn layout() -> Layout {
    let lengths = [20_000, 500, 64];
    let mut offset = 0;
    let segments = lengths.into_iter().enumerate().map(|(index, len)| {
        let group = index.min(1);
        let segment = SegmentLayout { offset, len, geometry: Geometry::Plain, group, perturbed: true, half: false };
        offset = (offset + len).next_multiple_of(32);
        segment
    });
    Layout::new(segments.collect())
}

fn length(layout: &Layout) -> usize {
    layout.segments().iter().map(|segment| segment.offset + segment.len).max().unwrap().next_multiple_of(32)
}

fn gradients(layout: &Layout, salt: usize) -> Vec<Option<Tensor>> {
    let segments = layout.segments().iter().enumerate();
    segments.map(|(index, segment)| (index < 2).then(|| tensor(segment.len, salt + index))).collect()
}

#[test]
fn a_blend_is_the_sum_by_group_where_its_first_table_has_a_gradient() {
    let layout = layout();
    let (a, b) = (gradients(&layout, 10), gradients(&layout, 20));
    let state = tensor(length(&layout), 30);
    let (table_a, table_b) = (GradientTable::<f64>::new(&a), GradientTable::<f64>::new(&b));
    let table_state = GradientTable::of_arena(&layout, Slab::of(&state));
    let blend = Blend::of(&table_a, 1.0, None).plus(-0.5, Some(vec![3.0, 0.0]), &table_b).plus(0.5, None, &table_state);
    let arena = Tensor::full([length(&layout) as i64], 7.0, OPTIONS);
    assign(&layout, Slab::of(&arena), &blend);
    let (found, state) = (values(&arena), values(&state));
    for (index, segment) in layout.segments().iter().enumerate() {
        for i in 0..segment.len {
            let at = segment.offset + i;
            let expected = match index {
                0 => number(i, 10) - 1.5 * number(i, 20) + 0.5 * state[at],
                1 => number(i, 11) + 0.5 * state[at],
                _ => 7.0,
            };
            assert!((found[at] - expected).abs() < 1e-14, "segment {index} at {i}");
        }
    }
}

#[test]
fn products_are_those_of_what_both_have() {
    let layout = layout();
    let (mut a, b) = (gradients(&layout, 10), gradients(&layout, 20));
    a[1] = None;
    let (table_a, table_b) = (GradientTable::<f64>::new(&a), GradientTable::<f64>::new(&b));
    let (one, two) = (Blend::of(&table_a, 1.0, None), Blend::of(&table_b, 2.0, None));
    let found = products(&layout, &one, &two);
    let sum = |f: fn(f64, f64) -> f64| (0..20_000).map(|i| f(number(i, 10), 2.0 * number(i, 20))).sum::<f64>();
    close(&[found.aa, found.ab, found.bb], &[sum(|a, _| a * a), sum(|a, b| a * b), sum(|_, b| b * b)], 1e-12);
}

#[test]
fn a_copy_is_the_same_numbers_on_the_segments() {
    let layout = layout();
    let (from, to) = (tensor(length(&layout), 1), Tensor::zeros([length(&layout) as i64], OPTIONS));
    copy::<f64>(&layout, Slab::of(&from), Slab::of(&to));
    for segment in layout.segments() {
        let part = |arena: &Tensor| arena.narrow(0, segment.offset as i64, segment.len as i64);
        assert_eq!(part(&to), part(&from));
    }
}

#[test]
fn translate_moves_the_master() {
    let layout = layout();
    let a = gradients(&layout, 10);
    let master = tensor(length(&layout), 1);
    let before = values(&master);
    let table = GradientTable::<f64>::new(&a);
    translate(&layout, Slab::of(&master), None, &Blend::of(&table, -0.25, None));
    for segment in layout.segments() {
        for i in 0..segment.len {
            let at = segment.offset + i;
            let change = if segment.offset < 20_512 && segment.len > 64 {
                -0.25 * number(i, if segment.offset == 0 { 10 } else { 11 })
            } else {
                0.0
            };
            assert!((values(&master)[at] - before[at] - change).abs() < 1e-15);
            if i > 100 {
                break;
            }
        }
    }
}

#[test]
fn gradients_and_weights_of_16_bits_round_once_to_nearest_even() {
    expect_one_rounding(Kind::BFloat16, |value| bf16::from_f32(value).to_f32());
    expect_one_rounding(Kind::Half, |value| f16::from_f32(value).to_f32());
}

fn expect_one_rounding(kind: Kind, round: fn(f32) -> f32) {
    let len = 10_000;
    let segment = SegmentLayout { offset: 0, len, geometry: Geometry::Plain, group: 0, perturbed: true, half: true };
    let layout = Layout::new(vec![segment]);
    let exact: Vec<f32> = (0..len).map(|i| number(i, 4) as f32).collect();
    let gradients = [Some(Tensor::from_slice(&exact).to_kind(kind))];
    let weights: Vec<f32> = (0..len).map(|i| number(i, 5) as f32).collect();
    let master = Tensor::from_slice(&weights);
    let half = master.to_kind(kind);
    let unused = Tensor::zeros([0], (Kind::Float, Device::Cpu));
    let working = Working::new(Slab::of(&unused), HalfSlab::of(&half));
    let table = GradientTable::<f32>::new(&gradients);
    let perturbation = Perturbation {
        shape: Shape::Quadratic,
        coefficients: &[0.125],
        eta: 0.0,
        filter_scales: Slab::of(&unused),
        origin: Origin::Master,
        mask: None,
        half_factor: 1.0,
        round_trip: false,
    };
    perturb(&layout, Slab::of(&master), &Blend::of(&table, 1.0, None), working, &perturbation);
    let found: Vec<f32> = Vec::try_from(half.to_kind(Kind::Float)).unwrap();
    for i in 0..len {
        assert_eq!(found[i], round(weights[i] + 0.125 * round(exact[i])), "at {i}");
    }
    let side = HalfSlab::of(&half).unwrap();
    restore::<f32>(&layout, Slab::of(&master), side);
    assert_eq!(half, master.to_kind(kind));
    let step = SgdStep { lr: 0.1, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, decoupled: false, nesterov: false };
    sgd(&layout, Slab::of(&master), Some(side), None, &Blend::of(&table, 1.0, None), &[step], &[false]);
    assert_ne!(master, Tensor::from_slice(&weights));
    assert_eq!(half, master.to_kind(kind));
}

#[test]
fn a_mask_keeps_its_share_and_depends_on_seed_and_index_alone() {
    let share = |mask: Mask| (0..100_000).filter(|&index| mask.keeps(index)).count() as f64 / 1e5;
    let mask = Mask { seed: 3, keep: 0.3, unit: MaskUnit::Element };
    // Five standard deviations of a binomial share.
    assert!((share(mask) - 0.3).abs() < 5.0 * (0.3 * 0.7 / 1e5_f64).sqrt());
    assert_eq!(share(Mask { keep: 1.0, ..mask }), 1.0);
    let other = Mask { seed: 4, ..mask };
    assert!((0..64).any(|index| mask.keeps(index) != other.keeps(index)));
}
