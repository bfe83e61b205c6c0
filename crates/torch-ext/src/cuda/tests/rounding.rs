//! The factor that makes up for rounding to bfloat16, found without the host.

use super::*;
use crate::cpu::{Blend as CpuBlend, GradientTable, Origin, Perturbation, Products};

/// What the CPU's kernel says of a factor, on the case's weights.
fn measured(case: &Case, gradients: &[Option<Tensor>], coefficients: &[f64], scales: &Tensor, factor: f64) -> Products {
    let table = GradientTable::<f32>::new(gradients);
    let perturbation = Perturbation {
        shape: cpu::Shape::Quadratic,
        coefficients,
        eta: 0.01,
        filter_scales: Slab::of(scales),
        origin: Origin::Master,
        mask: None,
        half_factor: factor,
        round_trip: false,
    };
    let (master, working) = (Slab::of(&case.master), case.reference());
    let blend = CpuBlend::of(&table, 1.0, None);
    cpu::rounded_displacement(&case.layout, master, &blend, working.working::<f32>(), &perturbation)
}

/// Weights on the grid of bfloat16. T_w is largest for the long filters, about 40: there eps is up to 1600 `size`.
fn corrected(size: f64, passes: u32) -> (StepValues, Products) {
    let case = Case::new(Kind::Float, true);
    case.master.shallow_clone().copy_(&case.master.to_kind(Kind::BFloat16).to_kind(Kind::Float));
    let gradients = case.gradients(60);
    let scales = case.filter_scales();
    let coefficients = Tensor::from_slice(&[size, size]);
    let table = case.table(&gradients);
    let blend = Blend::of(&table, 1.0, None);
    let metric = Metric { eta: 0.01, filter_scales: &scales };
    let displacement = Displacement {
        shape: Shape::Quadratic,
        coefficients: &coefficients,
        origin: Origin::Master,
        mask: None,
        round_trip: false,
    };
    case.update().norms(&blend, metric, NormPass::First, None).unwrap();
    case.update().correct_rounding(&blend, metric, &displacement, passes).unwrap();
    let values = case.record.read().unwrap();
    let products = measured(&case, &gradients, &[size, size], &scales, values.half_factor);
    (values, products)
}

#[test]
fn the_factor_makes_the_projection_one() {
    // Up to the distance of two neighbours: about half of eps is lost.
    let (plain, products) = corrected(1e-6, 0);
    assert_eq!(plain.half_factor, 1.0);
    assert!((products.ab / products.bb - 1.0).abs() > 0.02, "nothing to correct: {products:?}");
    let (values, products) = corrected(1e-6, 8);
    let (aa, ab, bb) = (products.aa, products.ab, products.bb);
    assert!((ab / bb - 1.0).abs() <= 0.0101, "{values:?} {products:?}");
    // The CPU's sums of the same factor.
    assert!((values.ratio / (aa / bb).sqrt() - 1.0).abs() < 1e-6);
    assert!((values.cosine / (ab / (aa * bb).sqrt()) - 1.0).abs() < 1e-6);
}

#[test]
fn a_faithful_displacement_is_left_alone() {
    let (values, products) = corrected(0.5, 8);
    assert_eq!(values.half_factor, 1.0);
    assert!((values.ratio * values.cosine - products.ab / products.bb).abs() < 1e-6);
}

#[test]
fn nothing_is_measured_without_a_displacement() {
    let (values, _) = corrected(0.0, 8);
    assert_eq!((values.half_factor, values.ratio, values.cosine), (1.0, 0.0, 0.0));
}
