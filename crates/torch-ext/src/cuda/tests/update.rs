//! Norms, ascent and descent against the CPU's kernels. Element by element the formulas round alike, so the writes are equal
//! bit for bit; sums differ in order and width.

use super::*;
use crate::cpu::{Blend as CpuBlend, GradientTable, MaskUnit, Origin, Perturbation};

/// The CPU's squares are float32 within a block of 16 Ki elements, ours are float64: relative error below sqrt(16 Ki / 64) eps.
const NORM_TOLERANCE: f64 = 2e-6;

fn ball<'a>(case: &'a Case, p: f64, coefficients: &'a Tensor) -> Ball<'a> {
    Ball { groups: &case.groups, p, guard: 1e-16, coefficients }
}

#[test]
fn norms_and_filter_scales() {
    fn check<T: Real>(case: &Case) {
        let gradients = case.gradients(10);
        let (scales, expected_scales) = (case.filter_scales(), case.filter_scales());
        let eta = 0.01;
        let table = case.table(&gradients);
        let metric = Metric { eta, filter_scales: &scales };
        let coefficients = Tensor::zeros([2], (Kind::Double, Device::Cpu));
        let ball = ball(case, 2.0, &coefficients);
        case.update().norms(&Blend::of(&table, 2.0, None), metric, NormPass::First, Some(&ball)).unwrap();
        let found = case.record.read().unwrap();

        let table = GradientTable::<T>::new(&gradients);
        let blend = CpuBlend::of(&table, 2.0, None);
        let (weights, slab) = (Slab::of(&case.master), Slab::of(&expected_scales));
        let expected = cpu::gradient_norms(&case.layout, weights, &blend, eta, slab);
        let tolerance = if case.kind == Kind::Double { 1e-13 } else { NORM_TOLERANCE };
        let close = |found: f64, expected: f64| (found / expected - 1.0).abs() <= tolerance;
        assert!(close(found.plain, expected.plain), "{found:?} {expected:?}");
        assert!(close(found.scaled, expected.scaled), "{found:?} {expected:?}");
        assert_close(&scales, &expected_scales, tolerance);
        assert!(found.proceeds && found.first_plain == found.plain && found.first_scaled == found.scaled);
        let lengths = [0.5, 0.2].map(|rho| rho / (found.scaled + 1e-16));
        assert_eq!(doubles(&coefficients), lengths);
    }
    for (kind, half) in FORMS {
        let case = Case::new(kind, half);
        with_real!(case, check(&case));
    }
}

#[test]
fn norms_of_tiny_and_huge_gradients_neither_vanish_nor_overflow() {
    for factor in [1e-30, 1e30] {
        let case = Case::new(Kind::Float, false);
        let scaled = |gradient: Tensor| gradient * factor;
        let gradients: Vec<_> = case.gradients(10).into_iter().map(|gradient| gradient.map(scaled)).collect();
        let scales = case.filter_scales();
        let metric = Metric { eta: 0.01, filter_scales: &scales };
        let norm = |gradients: &[Option<Tensor>]| {
            let table = case.table(gradients);
            case.update().norms(&Blend::of(&table, 1.0, None), metric, NormPass::Measure, None).unwrap();
            case.record.read().unwrap().scaled
        };
        let ratio = norm(&gradients) / norm(&case.gradients(10));
        assert!((ratio / factor - 1.0).abs() < 1e-5, "{ratio}");
    }
}

fn displacement<'a>(shape: Shape, coefficients: &'a Tensor) -> Displacement<'a> {
    Displacement { shape, coefficients, origin: Origin::Master, mask: None, round_trip: false }
}

/// What is varied besides the shape.
#[derive(Clone, Copy)]
struct Variation {
    origin: Origin,
    mask: Option<MaskUnit>,
    round_trip: bool,
}

const PLAIN: Variation = Variation { origin: Origin::Master, mask: None, round_trip: false };

fn perturb_both<T: Real>(case: &Case, shape: Shape, variation: Variation) -> Reference {
    let gradients = case.gradients(20);
    let scales = case.filter_scales();
    let coefficients = Tensor::from_slice(&[0.02, 0.03]);
    let table = case.table(&gradients);
    let blend = Blend::of(&table, 1.0, None);
    let metric = Metric { eta: 0.01, filter_scales: &scales };
    case.update().norms(&blend, metric, NormPass::First, None).unwrap();
    let groups = Tensor::zeros([2], (Kind::Double, Device::Cpu));
    if let Shape::Power { exponent } = shape {
        case.update().dual_norm(&blend, metric, &ball(case, 1.0 + 1.0 / exponent, &groups)).unwrap();
    }
    let reference = case.reference();
    let Variation { origin, mask, round_trip } = variation;
    let seed = Tensor::from_slice(&[77_i64]);
    let (keep, seed_value) = (0.6, 77);
    case.update()
        .perturb(
            &blend,
            metric,
            &Displacement {
                origin,
                mask: mask.map(|unit| Mask { seed: &seed, keep, unit }),
                round_trip,
                ..displacement(shape, &coefficients)
            },
        )
        .unwrap();

    let table = GradientTable::<T>::new(&gradients);
    let perturbation = Perturbation {
        shape: match shape {
            Shape::Quadratic => cpu::Shape::Quadratic,
            Shape::Linear => cpu::Shape::Linear,
            Shape::Sign => cpu::Shape::Sign,
            Shape::Power { exponent } => cpu::Shape::Power { unit: case.record.read().unwrap().largest, exponent },
        },
        coefficients: &[0.02, 0.03],
        eta: 0.01,
        filter_scales: Slab::of(&scales),
        origin,
        mask: mask.map(|unit| cpu::Mask { seed: seed_value, keep, unit }),
        half_factor: 1.0,
        round_trip,
    };
    let (master, working) = (Slab::of(&reference.master), reference.working::<T>());
    cpu::perturb(&case.layout, master, &CpuBlend::of(&table, 1.0, None), working, &perturbation);
    reference
}

#[test]
fn the_ascent_writes_the_cpus_numbers() {
    for (kind, half) in FORMS {
        for shape in [Shape::Quadratic, Shape::Linear, Shape::Sign] {
            let case = Case::new(kind, half);
            let reference = with_real!(case, perturb_both(&case, shape, PLAIN));
            case.assert_same(&reference);
            let moved = (&case.working - &case.master).abs().sum(Kind::Double).double_value(&[]);
            assert!(half || moved > 0.0);
        }
    }
}

#[test]
fn masks_origins_and_round_trips_are_the_cpus() {
    let variations = [
        Variation { mask: Some(MaskUnit::Element), ..PLAIN },
        Variation { mask: Some(MaskUnit::Segment), ..PLAIN },
        Variation { origin: Origin::Working, ..PLAIN },
        Variation { round_trip: true, ..PLAIN },
    ];
    for (kind, half) in FORMS {
        for variation in variations {
            let case = Case::new(kind, half);
            let reference = with_real!(case, perturb_both(&case, Shape::Quadratic, variation));
            case.assert_same(&reference);
        }
    }
}

#[test]
fn balls_of_other_norms() {
    fn check<T: Real>(case: &Case) {
        let (q, eta) = (3.0, 0.01);
        // The power function is the library's of either side.
        let reference = perturb_both::<T>(case, Shape::Power { exponent: q - 1.0 }, PLAIN);
        assert_close(&case.working, &reference.working, 1e-6);

        let (scales, coefficients) = (case.filter_scales(), Tensor::zeros([2], (Kind::Double, Device::Cpu)));
        let gradients = case.gradients(20);
        let table = case.table(&gradients);
        let metric = Metric { eta, filter_scales: &scales };
        let blend = Blend::of(&table, 1.0, None);
        case.update().norms(&blend, metric, NormPass::First, None).unwrap();
        let ball = Ball { guard: 1e-3, ..ball(case, 1.5, &coefficients) };
        case.update().dual_norm(&blend, metric, &ball).unwrap();
        let found = case.record.read().unwrap();
        let table = GradientTable::<T>::new(&gradients);
        let blend = CpuBlend::of(&table, 1.0, None);
        let master = Slab::of(&case.master);
        let expected = cpu::dual_norm(&case.layout, master, &blend, eta, Slab::of(&scales), q);
        let tolerance = if case.kind == Kind::Double { 1e-12 } else { 1e-6 };
        assert!((found.largest / expected.largest - 1.0).abs() < tolerance);
        assert!((found.relative / expected.relative - 1.0).abs() < tolerance);
        let radius = 0.5 / (found.relative + 1e-3 / found.largest).powf(q - 1.0);
        assert!((doubles(&coefficients)[0] / radius - 1.0).abs() < 1e-12);
    }
    for kind in [Kind::Double, Kind::Float] {
        let case = Case::new(kind, false);
        with_real!(case, check(&case));
    }
}

fn sgd_both<T: Real>(case: &Case, decoupled: bool, nesterov: bool) {
    let (momentum, expected_momentum) = (case.zeros(), case.zeros());
    let counts = case.counts();
    let reference = case.reference();
    let step = |lr: f64| cpu::SgdStep {
        lr,
        momentum: group().momentum,
        dampening: group().dampening,
        weight_decay: group().weight_decay,
        decoupled,
        nesterov,
    };
    for count in 0..3 {
        let gradients = case.gradients(30 + 10 * count);
        let table = case.table(&gradients);
        let blend = Blend::of(&table, 1.0, None);
        case.update().sgd(&blend, &case.groups, Some(&momentum), &counts, decoupled, nesterov).unwrap();
        let table = GradientTable::<T>::new(&gradients);
        let master = Slab::of(&reference.master);
        let (blend, first) = (CpuBlend::of(&table, 1.0, None), vec![count == 0; case.segments.len()]);
        let buffer = Some(Slab::of(&expected_momentum));
        cpu::sgd(&case.layout, master, reference.half(), buffer, &blend, &[step(0.1), step(0.03)], &first);
        reference.return_to_w(case);
        case.assert_same(&reference);
        assert_eq!(momentum, expected_momentum);
    }
    let counts = doubles(&counts);
    assert!(
        counts.iter().enumerate().all(|(index, &count)| count == if index == WITHOUT_GRADIENT { 0.0 } else { 3.0 })
    );
}

#[test]
fn sgd_writes_the_cpus_numbers() {
    for (kind, half) in FORMS {
        for (decoupled, nesterov) in [(false, false), (false, true), (true, false)] {
            let case = Case::new(kind, half);
            with_real!(case, sgd_both(&case, decoupled, nesterov));
        }
    }
}

#[test]
fn sgd_without_momentum_counts_nothing() {
    let mut case = Case::new(Kind::Float, false);
    case.groups = Groups::new(&case.place, &[Group { momentum: 0.0, ..group() }; 2]).unwrap();
    let (reference, counts) = (case.reference(), case.counts());
    let gradients = case.gradients(30);
    let table = case.table(&gradients);
    case.update().sgd(&Blend::of(&table, 1.0, None), &case.groups, None, &counts, false, false).unwrap();
    let step =
        cpu::SgdStep { lr: 0.1, momentum: 0.0, dampening: 0.0, weight_decay: 0.01, decoupled: false, nesterov: false };
    let table = GradientTable::<f32>::new(&gradients);
    let (master, blend) = (Slab::of(&reference.master), CpuBlend::of(&table, 1.0, None));
    cpu::sgd(&case.layout, master, reference.half(), None, &blend, &[step; 2], &[false; 6]);
    reference.return_to_w(&case);
    case.assert_same(&reference);
    assert_eq!(doubles(&counts), [0.0; 6]);
}

#[test]
fn adam_writes_the_cpus_numbers() {
    fn check<T: Real>(case: &Case, decoupled: bool) {
        let moments = [case.zeros(), case.zeros()];
        let expected_moments = [case.zeros(), case.zeros()];
        let (counts, reference) = (case.counts(), case.reference());
        let Group { beta1, beta2, eps, weight_decay, .. } = group();
        let step = |lr: f64| cpu::AdamStep { lr, beta1, beta2, eps, weight_decay, decoupled };
        for count in 0..3 {
            let gradients = case.gradients(30 + 10 * count);
            let table = case.table(&gradients);
            let blend = Blend::of(&table, 1.0, None);
            case.update().adam(&blend, &case.groups, (&moments[0], &moments[1]), &counts, decoupled).unwrap();
            let table = GradientTable::<T>::new(&gradients);
            let [first, second] = [0, 1].map(|index: usize| Slab::of(&expected_moments[index]));
            let master = Slab::of(&reference.master);
            let blend = CpuBlend::of(&table, 1.0, None);
            let steps = [step(0.1), step(0.03)];
            cpu::adam(&case.layout, master, reference.half(), first, second, &blend, &steps, &[count + 1; 6]);
            reference.return_to_w(case);
            case.assert_same(&reference);
            assert_eq!(moments, expected_moments);
        }
    }
    for (kind, half) in FORMS {
        for decoupled in [false, true] {
            let case = Case::new(kind, half);
            with_real!(case, check(&case, decoupled));
        }
    }
}
