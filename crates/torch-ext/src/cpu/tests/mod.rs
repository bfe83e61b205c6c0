//! The kernels against direct transcriptions of their formulas, one element at a time in f64.

mod balls;
mod combinations;

use tch::{Device, Kind, Tensor};

use super::*;

const OPTIONS: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Three segments with a gap between them: element-wise, by filter, plain; the last one without a gradient on request.
struct Case {
    layout: Layout,
    weights: Vec<f64>,
    gradients: Vec<Option<Tensor>>,
}

fn number(index: usize, salt: usize) -> f64 {
    let bits = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(salt as u64 * 0xBF58_476D_1CE4_E5B9);
    ((bits ^ (bits >> 29)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

fn case(kind: Kind, last_has_gradient: bool) -> Case {
    let lengths = [40_003, 9 * 2_000, 70];
    let geometries = [Geometry::Element, Geometry::Filter { len: 9 }, Geometry::Plain];
    let mut offset = 0;
    let mut segments = Vec::new();
    for (len, geometry) in lengths.into_iter().zip(geometries) {
        segments.push(SegmentLayout { offset, len, geometry, group: 0, perturbed: true, half: false });
        offset = (offset + len).next_multiple_of(32);
    }
    let gradients = segments
        .iter()
        .enumerate()
        .map(|(position, segment)| {
            let values: Vec<f64> = (0..segment.len).map(|i| number(i, position + 7)).collect();
            (position < 2 || last_has_gradient).then(|| Tensor::from_slice(&values).to_kind(kind))
        })
        .collect();
    Case { layout: Layout::new(segments), weights: (0..offset).map(|i| number(i, 3)).collect(), gradients }
}

/// T_w of every element, as the formula has it.
fn scales(case: &Case, eta: f64) -> Vec<f64> {
    let mut scales = vec![1.0; case.weights.len()];
    for segment in case.layout.segments() {
        let range = segment.offset..segment.offset + segment.len;
        let weights = &case.weights[range.clone()];
        for (i, scale) in scales[range].iter_mut().enumerate() {
            *scale = match segment.geometry {
                Geometry::Plain => 1.0,
                Geometry::Element => weights[i].abs() + eta,
                Geometry::Filter { len } => {
                    let filter = &weights[i / len * len..(i / len + 1) * len];
                    filter.iter().map(|w| w * w).sum::<f64>().sqrt() + eta
                }
            };
        }
    }
    scales
}

fn flat_gradient(case: &Case) -> Vec<f64> {
    let mut flat = vec![0.0; case.weights.len()];
    for (segment, gradient) in case.layout.segments().iter().zip(&case.gradients) {
        if let Some(gradient) = gradient {
            let values: Vec<f64> = Vec::try_from(gradient.to_kind(Kind::Double)).unwrap();
            flat[segment.offset..segment.offset + segment.len].copy_from_slice(&values);
        }
    }
    flat
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double)).unwrap()
}

fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance * (1.0 + expected.abs()), "at {i}: {found} and {expected}");
    }
}

fn ascend<T: Real>(case: &Case, rho: f64, eta: f64, round_trip: bool) -> (GradientNorms, Vec<f64>, Vec<f64>) {
    let master = Tensor::from_slice(&case.weights).to_kind(T::KIND);
    let working = master.copy();
    for segment in case.layout.segments() {
        // Nothing may be left of what was there.
        let _ = working.narrow(0, segment.offset as i64, segment.len as i64).fill_(f64::NAN);
    }
    let filter_scales = Tensor::zeros([case.layout.filters() as i64], (T::KIND, Device::Cpu));
    let table = GradientTable::<T>::new(&case.gradients);
    let (slab, scales) = (Slab::of(&master), Slab::of(&filter_scales));
    let gradient = Blend::of(&table, 1.0, None);
    let norms = gradient_norms(&case.layout, slab, &gradient, eta, scales);
    let coefficients = [rho / norms.scaled];
    let perturbation = Perturbation {
        shape: Shape::Quadratic,
        coefficients: &coefficients,
        eta,
        filter_scales: scales,
        origin: Origin::Master,
        mask: None,
        half_factor: 1.0,
        round_trip,
    };
    perturb(&case.layout, slab, &gradient, Working::new(Slab::of(&working), None), &perturbation);
    (norms, values(&working), values(&master))
}

#[test]
fn ascent_is_the_formula_in_every_geometry() {
    for last_has_gradient in [true, false] {
        for (kind, tolerance) in [(Kind::Double, 1e-13), (Kind::Float, 2e-6)] {
            let case = case(kind, last_has_gradient);
            let (rho, eta) = (0.5, 0.01);
            let (norms, working, master) = match kind {
                Kind::Double => ascend::<f64>(&case, rho, eta, false),
                _ => ascend::<f32>(&case, rho, eta, false),
            };
            let (t, g) = (scales(&case, eta), flat_gradient(&case));
            let norm = t.iter().zip(&g).map(|(t, g)| (t * g).powi(2)).sum::<f64>().sqrt();
            let plain = g.iter().map(|g| g * g).sum::<f64>().sqrt();
            close(&[norms.scaled, norms.plain], &[norm, plain], tolerance);
            let expected: Vec<f64> =
                case.weights.iter().zip(&t).zip(&g).map(|((w, t), g)| w + rho * t * t * g / norm).collect();
            close(&working, &expected, tolerance);
            close(&master, &case.weights, if kind == Kind::Double { 0.0 } else { 1e-7 });
            // norm2(T^-1 eps) = rho, over what has a gradient.
            let length =
                expected.iter().zip(&case.weights).zip(&t).map(|((e, w), t)| ((e - w) / t).powi(2)).sum::<f64>();
            assert!((length.sqrt() - rho).abs() < 1e-9);
        }
    }
}

#[test]
fn large_arenas_are_streamed_to_the_same_result() {
    // The same numbers, in an arena above and one below the size from which results go past the caches.
    let len = 5 << 20;
    let values = |salt| Tensor::from_slice(&(0..len).map(|i| number(i, salt) as f32).collect::<Vec<_>>());
    let (weights, gradient) = (values(1), values(2));
    let run = |length: usize| {
        let part = |tensor: &Tensor| tensor.narrow(0, 0, length as i64).copy();
        let (master, working, momentum) = (part(&weights), part(&weights), part(&weights).zeros_like());
        let segment = SegmentLayout {
            offset: 0,
            len: length,
            geometry: Geometry::Element,
            group: 0,
            perturbed: true,
            half: false,
        };
        let layout = Layout::new(vec![segment]);
        let gradients = [Some(part(&gradient))];
        let table = GradientTable::<f32>::new(&gradients);
        let none = Tensor::zeros([0], (Kind::Float, Device::Cpu));
        let perturbation = Perturbation {
            shape: Shape::Quadratic,
            coefficients: &[0.25],
            eta: 0.01,
            filter_scales: Slab::of(&none),
            origin: Origin::Master,
            mask: None,
            half_factor: 1.0,
            round_trip: false,
        };
        let (slab, reads, gradient) =
            (Slab::of(&master), Working::new(Slab::of(&working), None), Blend::of(&table, 1.0, None));
        perturb(&layout, slab, &gradient, reads, &perturbation);
        let perturbed = working.copy();
        let step =
            SgdStep { lr: 0.1, momentum: 0.9, dampening: 0.0, weight_decay: 0.01, decoupled: false, nesterov: false };
        sgd(&layout, slab, None, Some(Slab::of(&momentum)), &gradient, &[step], &[false]);
        [perturbed, master, momentum].map(|tensor| tensor.narrow(0, 0, 100_000).copy())
    };
    assert_eq!(run(len), run(100_000));
}

#[test]
fn restoring_by_subtraction_is_emulated_to_the_bit() {
    let case = case(Kind::Float, true);
    let (_, working, master) = ascend::<f32>(&case, 0.5, 0.0, true);
    let (_, _, kept) = ascend::<f32>(&case, 0.5, 0.0, false);
    assert_ne!(master, kept, "f32 rounding must show");
    close(&master, &kept, 1e-6);
    assert!(working.iter().zip(&kept).any(|(a, b)| a != b));
}

#[test]
fn norms_survive_overflow_underflow_zero_and_nan() {
    let norms = |scale: f64, poison: Option<f64>| {
        let mut case = case(Kind::Float, true);
        for gradient in case.gradients.iter_mut().flatten() {
            *gradient = (&*gradient * scale).to_kind(Kind::Float);
        }
        if let Some(poison) = poison {
            let _ = case.gradients[1].as_mut().unwrap().get(17).fill_(poison);
        }
        ascend::<f32>(&case, 0.1, 0.0, false).0
    };
    let unit = norms(1.0, None);
    for scale in [1e25, 1e-30] {
        let scaled = norms(scale, None);
        close(&[scaled.plain / scale, scaled.scaled / scale], &[unit.plain, unit.scaled], 1e-5);
    }
    assert_eq!(norms(0.0, None), GradientNorms { plain: 0.0, scaled: 0.0 });
    for poison in [f64::NAN, f64::INFINITY] {
        assert!(!norms(1.0, Some(poison)).is_finite());
        assert!(!norms(1e25, Some(poison)).is_finite());
    }
}

#[test]
fn sgd_is_torch_optim_sgd() {
    for (nesterov, decoupled) in [(false, false), (true, false), (false, true), (true, true)] {
        let case = case(Kind::Double, false);
        let options = SgdStep {
            lr: 0.1,
            momentum: 0.9,
            dampening: if nesterov { 0.0 } else { 0.2 },
            weight_decay: 0.01,
            decoupled,
            nesterov,
        };
        let master = Tensor::from_slice(&case.weights);
        let momentum = Tensor::zeros_like(&master);
        let table = GradientTable::<f64>::new(&case.gradients);
        let g = flat_gradient(&case);
        let (mut w, mut b) = (case.weights.clone(), vec![0.0; g.len()]);
        let end = case.layout.segments()[1].offset + case.layout.segments()[1].len;
        for step in 0..3 {
            let first = [step == 0; 3];
            sgd(
                &case.layout,
                Slab::of(&master),
                None,
                Some(Slab::of(&momentum)),
                &Blend::of(&table, 1.0, None),
                &[options],
                &first,
            );
            for segment in &case.layout.segments()[..2] {
                for i in segment.offset..segment.offset + segment.len {
                    let d = if decoupled { g[i] } else { g[i] + 0.01 * w[i] };
                    if decoupled {
                        w[i] -= 0.1 * 0.01 * w[i];
                    }
                    b[i] = if step == 0 { d } else { 0.9 * b[i] + (1.0 - options.dampening) * d };
                    w[i] -= 0.1 * if nesterov { d + 0.9 * b[i] } else { b[i] };
                }
            }
        }
        close(&values(&master)[..end], &w[..end], 1e-14);
        // No gradient: no decay, no momentum.
        assert_eq!(values(&master), {
            let mut all = values(&master);
            all[end..].copy_from_slice(&case.weights[end..]);
            all
        });
    }
}

#[test]
fn adam_and_adamw_are_their_algorithms() {
    for decoupled in [false, true] {
        let case = case(Kind::Double, true);
        let step = AdamStep { lr: 1e-2, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, decoupled };
        let master = Tensor::from_slice(&case.weights);
        let arenas: Vec<Tensor> = (0..2).map(|_| Tensor::zeros([case.weights.len() as i64], OPTIONS)).collect();
        let table = GradientTable::<f64>::new(&case.gradients);
        let g = flat_gradient(&case);
        let mut w = case.weights.clone();
        let (mut m, mut v) = (vec![0.0; g.len()], vec![0.0; g.len()]);
        for t in 1..=3u64 {
            let slab = |i: usize| Slab::of(&arenas[i]);
            adam(
                &case.layout,
                Slab::of(&master),
                None,
                slab(0),
                slab(1),
                &Blend::of(&table, 1.0, None),
                &[step],
                &[t; 3],
            );
            for segment in case.layout.segments() {
                for i in segment.offset..segment.offset + segment.len {
                    let d = if decoupled { g[i] } else { g[i] + 0.1 * w[i] };
                    if decoupled {
                        w[i] *= 1.0 - 1e-2 * 0.1;
                    }
                    m[i] = 0.9 * m[i] + 0.1 * d;
                    v[i] = 0.99 * v[i] + 0.01 * d * d;
                    let (bias1, bias2) = (1.0 - 0.9f64.powi(t as i32), 1.0 - 0.99f64.powi(t as i32));
                    w[i] -= 1e-2 * (m[i] / bias1) / ((v[i] / bias2).sqrt() + 1e-8);
                }
            }
        }
        close(&values(&master), &w, 1e-13);
    }
}
