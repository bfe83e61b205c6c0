//! Ascents over balls of other norms than the 2-norm: they stay on the ball, and no numeric optimiser gets further.

use super::*;

const RHO: f64 = 0.3;
const ETA: f64 = 0.01;

/// u = T_w^-1 eps and h = T_w g after an ascent over the ball of norm p.
fn ascend(p: f64, geometry: Geometry) -> (Vec<f64>, Vec<f64>) {
    let len = 24;
    let segments =
        [0, 32].map(|offset| SegmentLayout { offset, len, geometry, group: 0, perturbed: true, half: false });
    let layout = Layout::new(segments.to_vec());
    let weights: Vec<f64> = (0..64).map(|i| number(i, 1)).collect();
    let gradients = [2, 3].map(|salt| Some(Tensor::from_slice(&(0..len).map(|i| number(i, salt)).collect::<Vec<_>>())));
    let case = Case { layout, weights, gradients: gradients.into() };
    let master = Tensor::from_slice(&case.weights);
    let working = master.copy();
    let filter_scales = Tensor::zeros([case.layout.filters() as i64], OPTIONS);
    let table = GradientTable::<f64>::new(&case.gradients);
    let gradient = Blend::of(&table, 1.0, None);
    let (slab, scales_slab) = (Slab::of(&master), Slab::of(&filter_scales));
    gradient_norms(&case.layout, slab, &gradient, ETA, scales_slab);
    let (shape, coefficient) = if p.is_infinite() {
        (Shape::Sign, RHO)
    } else {
        let q = p / (p - 1.0);
        let norm = dual_norm(&case.layout, slab, &gradient, ETA, scales_slab, q);
        (Shape::Power { unit: norm.largest, exponent: q - 1.0 }, RHO / norm.relative.powf(q - 1.0))
    };
    let perturbation = Perturbation {
        shape,
        coefficients: &[coefficient],
        eta: ETA,
        filter_scales: scales_slab,
        origin: Origin::Master,
        mask: None,
        half_factor: 1.0,
        round_trip: false,
    };
    perturb(&case.layout, slab, &gradient, Working::new(Slab::of(&working), None), &perturbation);
    let (t, g) = (scales(&case, ETA), flat_gradient(&case));
    let inside: Vec<usize> = (0..len).chain(32..32 + len).collect();
    let moved = values(&working);
    let u = inside.iter().map(|&i| (moved[i] - case.weights[i]) / t[i]).collect();
    (u, inside.iter().map(|&i| t[i] * g[i]).collect())
}

fn norm(u: &[f64], p: f64) -> f64 {
    let largest = u.iter().fold(0.0_f64, |max, u| max.max(u.abs()));
    if p.is_infinite() {
        largest
    } else {
        largest * u.iter().map(|u| (u.abs() / largest).powf(p)).sum::<f64>().powf(1.0 / p)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The largest <h, u> over norm_p(u) <= rho that a search finds which knows nothing of dual norms: it changes one
/// coordinate at a time, scales back to the ball, and keeps what is better.
fn search(h: &[f64], p: f64) -> f64 {
    let scaled = |u: &[f64]| dot(h, u) * RHO / norm(u, p);
    let mut u = h.to_vec();
    let mut best = scaled(&u);
    let mut step = 0.5;
    while step > 1e-7 {
        let before = best;
        for index in 0..u.len() {
            for factor in [1.0 + step, 1.0 / (1.0 + step)] {
                let kept = u[index];
                u[index] *= factor;
                let value = scaled(&u);
                if value > best { best = value } else { u[index] = kept }
            }
        }
        if best <= before * (1.0 + 1e-9) {
            step *= 0.5;
        }
    }
    best
}

#[test]
fn every_ball_is_met_at_its_edge_where_the_loss_rises_most() {
    for geometry in [Geometry::Plain, Geometry::Element, Geometry::Filter { len: 6 }] {
        for p in [f64::INFINITY, 8.0, 4.0, 1.5, 1.25] {
            let (u, h) = ascend(p, geometry);
            assert!((norm(&u, p) - RHO).abs() < 1e-6, "{geometry:?} p {p}: norm {}", norm(&u, p));
            let (gain, found) = (dot(&h, &u), search(&h, p));
            assert!((gain / found - 1.0).abs() < 1e-4, "{geometry:?} p {p}: gain {gain}, search {found}");
        }
    }
}

#[test]
fn powers_near_one_survive_f32() {
    // q = 101: |h|^100 underflows unless the largest is divided out.
    let values: Vec<f32> = (0..40).map(|i| 1e-20 * (1.0 + number(i, 5) as f32)).collect();
    let gradients = [Some(Tensor::from_slice(&values))];
    let layout = Layout::new(vec![SegmentLayout {
        offset: 0,
        len: 40,
        geometry: Geometry::Plain,
        group: 0,
        perturbed: true,
        half: false,
    }]);
    let weights = Tensor::zeros([40], (Kind::Float, Device::Cpu));
    let none = Tensor::zeros([0], (Kind::Float, Device::Cpu));
    let table = GradientTable::<f32>::new(&gradients);
    let blend = Blend::of(&table, 1.0, None);
    let norm = dual_norm(&layout, Slab::of(&weights), &blend, 0.0, Slab::of(&none), 101.0);
    assert!(norm.largest > 0.0 && norm.relative >= 1.0 && norm.relative.is_finite(), "{norm:?}");
}
