//! A whole step as a captured one runs: every decision is taken by the kernels.

use super::*;
use crate::cpu::Origin;

/// Norms, ascent, second norms, descent, with nothing read in between.
fn step(case: &Case, momentum: &Tensor, counts: &Tensor, gradients: [&[Option<Tensor>]; 2]) -> StepValues {
    let scales = case.filter_scales();
    let coefficients = Tensor::zeros([2], (Kind::Double, Device::Cpu));
    let metric = Metric { eta: 0.01, filter_scales: &scales };
    let ball = Ball { groups: &case.groups, p: 2.0, guard: 1e-16, coefficients: &coefficients };
    let displacement = Displacement {
        shape: Shape::Quadratic,
        coefficients: &coefficients,
        origin: Origin::Master,
        mask: None,
        round_trip: false,
    };
    let update = case.update();
    let tables = gradients.map(|gradients| case.table(gradients));
    let [first, second] = [0, 1].map(|pass: usize| Blend::of(&tables[pass], 1.0, None));
    update.norms(&first, metric, NormPass::First, Some(&ball)).unwrap();
    update.perturb(&first, metric, &displacement).unwrap();
    update.norms(&second, metric, NormPass::Second, None).unwrap();
    update.sgd(&second, &case.groups, Some(momentum), counts, false, false).unwrap();
    case.record.read().unwrap()
}

/// Something that is not a number, in the middle of one gradient.
fn spoiled(case: &Case, value: f64) -> Vec<Option<Tensor>> {
    let gradients = case.gradients(50);
    if let Some(gradient) = &gradients[2] {
        let _ = gradient.narrow(0, 5_000, 1).fill_(value);
    }
    gradients
}

#[test]
fn a_step_that_is_not_finite_leaves_everything_as_it_was() {
    for (kind, half) in FORMS {
        for value in [f64::NAN, f64::INFINITY] {
            for spoiled_pass in 0..2 {
                let case = Case::new(kind, half);
                let (momentum, counts, reference) = (case.zeros(), case.counts(), case.reference());
                let (good, bad) = (case.gradients(40), spoiled(&case, value));
                let gradients = if spoiled_pass == 0 { [&bad[..], &good[..]] } else { [&good[..], &bad[..]] };
                let values = step(&case, &momentum, &counts, gradients);
                case.assert_same(&reference);
                assert_eq!(doubles(&momentum).iter().map(|m| m.abs()).sum::<f64>(), 0.0);
                assert_eq!(doubles(&counts), [0.0; 6]);
                assert_eq!((values.proceeds, values.taken, values.skipped), (false, 0, 1));
                // The next one is taken as if nothing had been.
                let values = step(&case, &momentum, &counts, [&good, &good]);
                assert_eq!((values.proceeds, values.taken, values.skipped), (true, 1, 1));
                assert_ne!(case.master, reference.master);
            }
        }
    }
}

#[test]
fn a_zero_gradient_perturbs_nothing() {
    let case = Case::new(Kind::Float, false);
    let reference = case.reference();
    let zeros: Vec<_> = case.gradients(40).into_iter().map(|gradient| gradient.map(|g| g.zeros_like())).collect();
    let (scales, coefficients) = (case.filter_scales(), Tensor::ones([2], (Kind::Double, Device::Cpu)));
    let table = case.table(&zeros);
    let blend = Blend::of(&table, 1.0, None);
    let metric = Metric { eta: 0.01, filter_scales: &scales };
    let ball = Ball { groups: &case.groups, p: 2.0, guard: 0.0, coefficients: &coefficients };
    case.update().norms(&blend, metric, NormPass::First, Some(&ball)).unwrap();
    let displacement = Displacement {
        shape: Shape::Quadratic,
        coefficients: &coefficients,
        origin: Origin::Master,
        mask: None,
        round_trip: false,
    };
    case.update().perturb(&blend, metric, &displacement).unwrap();
    assert_eq!(doubles(&coefficients), [0.0; 2]);
    case.assert_same(&reference);
}

#[test]
fn statistics_become_real_only_if_the_step_proceeds() {
    let case = Case::new(Kind::Float, false);
    let scales = case.filter_scales();
    let metric = Metric { eta: 0.0, filter_scales: &scales };
    let staged = numbers(3_000, 5).to_kind(Kind::Float);
    for (gradients, expected) in [(spoiled(&case, f64::NAN), staged.zeros_like()), (case.gradients(40), staged.copy())]
    {
        let committed = staged.zeros_like();
        let table = case.table(&gradients);
        case.update().norms(&Blend::of(&table, 1.0, None), metric, NormPass::First, None).unwrap();
        case.update().commit(&committed, &staged).unwrap();
        assert_eq!(committed, expected);
    }
}

#[test]
fn a_gradient_is_clipped_to_a_norm() {
    let case = Case::new(Kind::Double, false);
    let scales = case.filter_scales();
    let gradients = case.gradients(40);
    let table = case.table(&gradients);
    let metric = Metric { eta: 0.0, filter_scales: &scales };
    let factors = Tensor::zeros([2], (Kind::Double, Device::Cpu));
    let norm = |by_group: Option<&Tensor>| {
        case.update().norms(&Blend::of(&table, 1.0, by_group), metric, NormPass::Measure, None).unwrap();
        case.record.read().unwrap().plain
    };
    let whole = norm(None);
    case.update().clip(5.0, 0.0, &factors).unwrap();
    assert!((norm(Some(&factors)) - 5.0).abs() < 1e-12);
    norm(None);
    case.update().clip(2.0 * whole, 0.0, &factors).unwrap();
    assert_eq!(doubles(&factors), [1.0; 2]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let case = Case::new(Kind::Float, false);
    let table = Table::new(&case.place, &case.cut).unwrap();
    let mut gradients = case.gradients(1);
    let too_few = table.set(&case.place, &case.cut, case.kind, &gradients[1..]).unwrap_err();
    assert!(too_few.to_string().contains("5 of them, expected 6"), "{too_few}");
    gradients[0] = Some(numbers(3, 1));
    let wrong = table.set(&case.place, &case.cut, case.kind, &gradients).unwrap_err();
    assert!(wrong.to_string().contains("found 3 elements of Double"), "{wrong}");
    let table = case.table(&case.gradients(1));
    let blend = (0..5).fold(Blend::of(&table, 1.0, None), |blend, _| blend.plus(1.0, None, &table));
    let many = case.update().assign(&case.zeros(), &blend).unwrap_err();
    assert!(many.to_string().contains("6 terms, expected at most 4"), "{many}");
}
