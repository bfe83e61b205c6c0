//! Measures of functions whose sharpness and Hessian are known.

mod common;

use common::{conv, eigenvalues, hessian, images, linear, magnitudes, mse, near, quietly, to_minimum};
use flatmin_analysis::{CurvatureOptions, DensityOptions, Method, SharpnessOptions, curvature, sharpness};
use flatmin_nn::Dtype;
use flatmin_optim::{Adaptive, BallConfig, PNorm, Scale};
use flatmin_train::EvaluateOptions;
use serde_json::json;
use tch::Tensor;

fn elementwise() -> BallConfig {
    BallConfig { scale: Scale::Element, adaptive: Adaptive::All, ..BallConfig::default() }
}

fn adaptive_hessian(hessian: &Tensor, magnitudes: &Tensor) -> Tensor {
    hessian * magnitudes.unsqueeze(0) * magnitudes.unsqueeze(1)
}

/// rho^2 lambda_max / 2, and rho^2 lambda_max(T H T) / 2 in the metric of T_w.
#[test]
fn sharpness_at_a_minimum_is_the_largest_eigenvalue() {
    let (mut model, set) = (linear(), images(2, 3, 50));
    to_minimum(&mut model, &set);
    let hessian = hessian(&model, &set);
    let adaptive = adaptive_hessian(&hessian, &magnitudes(&model));
    for (ball, matrix) in [(BallConfig::default(), &hessian), (elementwise(), &adaptive)] {
        let rho = vec![0.01, 0.5];
        let options = SharpnessOptions { rho, ball, steps: 60, restarts: 2, data: mse(), ..Default::default() };
        let found = quietly(|monitor| sharpness(&mut model, &set, &options, monitor));
        assert!(found.slope.unwrap() < 1e-12);
        for point in &found.points {
            near(point.sharpness, point.rho.powi(2) * eigenvalues(matrix)[0] / 2.0, 1e-3);
            near(point.norm, point.rho, 1e-9);
            assert!(point.curve.iter().all(|rise| *rise <= point.sharpness));
        }
    }
}

/// E L(w + rho u) - L = rho^2 tr H / (2 n) on the sphere.
#[test]
fn average_sharpness_at_a_minimum_is_the_mean_eigenvalue() {
    let (mut model, set) = (linear(), images(2, 3, 50));
    to_minimum(&mut model, &set);
    let expected = 0.3_f64.powi(2) * f64::try_from(hessian(&model, &set).trace()).unwrap() / 2.0 / 21.0;
    let options =
        SharpnessOptions { method: Method::Random, rho: vec![0.3], draws: 2000, data: mse(), ..Default::default() };
    let point = quietly(|monitor| sharpness(&mut model, &set, &options, monitor)).points.remove(0);
    assert_eq!((point.spread.over, point.spread.count), ("draws", 2000));
    let error = point.spread.sd.unwrap() / 2000.0_f64.sqrt();
    assert!((point.sharpness - expected).abs() < 4.0 * error && error < 0.03 * expected);
}

/// Away from a minimum: rho norm(g) + rho^2 g^T H g / (2 norm(g)^2), and the loss falls as far when the sign is turned.
#[test]
fn one_step_is_the_first_order_solution() {
    let (mut model, set) = (linear(), images(2, 3, 50));
    for p in [PNorm::Finite(2.0), PNorm::Finite(1.5), PNorm::Finite(4.0), serde_json::from_value(json!("inf")).unwrap()]
    {
        let ball = BallConfig { p, ..elementwise() };
        let rho = vec![1e-5, 2e-5];
        let options = SharpnessOptions { method: Method::OneStep, rho, ball, data: mse(), ..Default::default() };
        let found = quietly(|monitor| sharpness(&mut model, &set, &options, monitor));
        for point in &found.points {
            near(point.norm, point.rho, 1e-9);
            near(point.sharpness, found.slope.unwrap() * point.rho, 1e-3);
        }
        // What is left is of second order.
        let rest = |at: usize| found.points[at].sharpness - found.slope.unwrap() * found.points[at].rho;
        near(rest(1) / rest(0), 4.0, 1e-3);
    }
}

/// The sharpness that a training step tells is the one-step measure of its batch.
#[test]
fn one_step_is_the_ascent_of_training() {
    use flatmin_optim::{Loss, Optimizer, StepOptions, Target, train_step};
    use flatmin_train::EvaluationBatches;
    let set = images(2, 3, 50);
    let data = EvaluateOptions { batch_size: 50, ..mse() };
    for p in [json!(2), json!(3), json!("inf")] {
        for scale in ["none", "element", "filter"] {
            let ball = json!({"scale": scale, "eta": 0.01, "linearFilters": true, "p": p});
            let mut sharpness_of_step = ball.clone();
            sharpness_of_step["rho"] = json!(0.3);
            let config = json!({"base": {"type": "sgd", "lr": 0}, "sharpness": sharpness_of_step});
            let mut model = linear();
            let mut optimizer = Optimizer::new(&mut model, serde_json::from_value(config).unwrap()).unwrap();
            let batch = EvaluationBatches::new(&model, &set, &data).unwrap().iter().next().unwrap().unwrap();
            let target = Target::Classes(batch.target.classes().unwrap());
            let (images, step) = (&batch.images, StepOptions::new(1));
            let told = train_step(&mut model, &mut optimizer, images, &target, &Loss::Mse, step).unwrap();
            let options = SharpnessOptions {
                method: Method::OneStep,
                rho: vec![0.3],
                ball: serde_json::from_value(ball).unwrap(),
                data: data.clone(),
                ..Default::default()
            };
            let found = quietly(|monitor| sharpness(&mut linear(), &set, &options, monitor));
            near(found.points[0].sharpness, told.sharpness.unwrap(), 1e-9);
        }
    }
}

#[test]
fn an_ascent_is_never_below_one_step_and_stays_in_the_ball() {
    let set = images(4, 4, 40);
    for p in [json!(2), json!(3), json!("inf")] {
        let ball = BallConfig { p: serde_json::from_value(p).unwrap(), ..elementwise() };
        let measure = |method| {
            let rho = vec![0.02, 0.1];
            let options = SharpnessOptions { method, rho, ball: ball.clone(), steps: 10, ..Default::default() };
            quietly(|monitor| sharpness(&mut conv(Dtype::Float64), &set, &options, monitor)).points
        };
        for (ascent, step) in measure(Method::Ascent).iter().zip(measure(Method::OneStep)) {
            assert!(ascent.sharpness >= step.sharpness && step.sharpness > 0.0);
            assert!(ascent.norm <= ascent.rho * (1.0 + 1e-9));
            assert_eq!(ascent.spread.over, "batches");
        }
    }
}

/// Groups of m images with a worst point each: the mean of what each group gives on its own.
#[test]
fn m_sharpness_is_the_mean_over_groups() {
    let set = images(4, 4, 50);
    let measure = |set: &_, m, batch_size| {
        let data = EvaluateOptions { batch_size, ..EvaluateOptions::default() };
        let options = SharpnessOptions { method: Method::OneStep, m, rho: vec![0.1], data, ..Default::default() };
        quietly(|monitor| sharpness(&mut conv(Dtype::Float64), set, &options, monitor))
    };
    let parts = set.split(&[flatmin_data::SplitSize::Count(20), flatmin_data::SplitSize::Count(30)], 1).unwrap();
    let alone: Vec<_> = parts.iter().map(|part| measure(part, None, 64).points[0].sharpness).collect();
    // Whole groups, and the same in parts of another size.
    for (part, alone) in parts.iter().zip(&alone) {
        near(measure(part, Some(30), 64).points[0].sharpness, *alone, 1e-9);
        near(measure(part, Some(30), 7).points[0].sharpness, *alone, 1e-9);
    }
    let first = set.take(40).unwrap();
    let grouped = measure(&first, Some(20), 64);
    assert_eq!((grouped.slope, grouped.points[0].spread.count), (None, 2));
    assert!(grouped.points[0].sharpness >= measure(&first, None, 64).points[0].sharpness);
    let spread = &grouped.points[0].spread;
    near(spread.min + spread.max, 2.0 * grouped.points[0].sharpness, 1e-9);
}

#[test]
fn curvature_of_a_quadratic_is_its_matrix() {
    let (mut model, set) = (linear(), images(2, 3, 50));
    let hessian = hessian(&model, &set);
    let adaptive = adaptive_hessian(&hessian, &magnitudes(&model));
    for (ball, matrix) in [(BallConfig::default(), &hessian), (elementwise(), &adaptive)] {
        let options = CurvatureOptions {
            top_k: 3,
            vectors: true,
            // Enough to span all of it: the trace is then exact.
            trace_probes: 66,
            density: Some(DensityOptions { probes: 100, ..DensityOptions::default() }),
            ball,
            data: EvaluateOptions { batch_size: 50, ..mse() },
            ..Default::default()
        };
        let found = quietly(|monitor| curvature(&mut model, &set, &options, monitor));
        assert!(found.converged && found.dimensions == 21);
        // Each eigenvalue of the plain Hessian is there three times, once a class: Lanczos sees such copies once.
        let mut distinct = eigenvalues(matrix);
        distinct.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
        for (found, expected) in found.eigenvalues.iter().zip(&distinct) {
            near(found.value, *expected, 1e-6);
        }
        assert_eq!(found.vectors.len(), 3);
        let trace = f64::try_from(matrix.trace()).unwrap();
        let estimate = found.trace.unwrap();
        near(estimate.value, trace, 1e-6);
        let density = found.density.unwrap();
        let step = density.eigenvalues[1] - density.eigenvalues[0];
        near(density.density.iter().sum::<f64>() * step, 1.0, 1e-3);
        near(density.trace, trace, 0.1);
    }
}

/// The Hessian of a net with convolutions, batch norm and a residual block, column by column from differences of its gradient.
#[test]
fn curvature_of_a_small_net_is_that_of_its_finite_differences() {
    use flatmin_nn::Pass;
    use flatmin_optim::Loss;
    use flatmin_train::EvaluationBatches;
    let (mut model, set) = (conv(Dtype::Float64), images(4, 4, 20));
    let data = EvaluateOptions::default();
    let batch = EvaluationBatches::new(&model, &set, &data).unwrap().iter().next().unwrap().unwrap();
    let gradient = |model: &flatmin_nn::Model| {
        let logits = model.forward(&batch.images, Pass::Eval).unwrap();
        let loss = Loss::default().apply(&logits, &batch.target).unwrap();
        let leaves = model.parameters().leaves();
        let parts = Tensor::run_backward(&[loss], leaves, false, false);
        Tensor::cat(&parts.iter().map(|part| part.reshape([-1])).collect::<Vec<_>>(), 0)
    };
    let mut columns = Vec::new();
    for position in 0..model.parameters().segments().len() {
        let value = model.parameters().read(position).unwrap();
        for element in 0..value.numel() as i64 {
            let mut at = |shift: f64| {
                let moved = value.flatten(0, -1).copy();
                let _ = moved.get(element).f_add_scalar_(shift).unwrap();
                model.parameters_mut().write(position, &moved.reshape(value.size())).unwrap();
                gradient(&model)
            };
            columns.push((at(1e-5) - at(-1e-5)) / 2e-5);
        }
        model.parameters_mut().write(position, &value).unwrap();
    }
    let matrix = Tensor::stack(&columns, 1);
    let symmetric = (&matrix + matrix.transpose(0, 1)) / 2.0;
    let expected = eigenvalues(&symmetric);
    let options =
        CurvatureOptions { top_k: 5, iterations: 200, tolerance: 1e-7, trace_probes: 600, ..Default::default() };
    let found = quietly(|monitor| curvature(&mut model, &set, &options, monitor));
    assert_eq!(found.dimensions, columns.len());
    for (found, expected) in found.eigenvalues.iter().zip(&expected) {
        near(found.value, *expected, 1e-4);
    }
    near(found.smallest.unwrap().value, *expected.last().unwrap(), 1e-2);
    let trace = f64::try_from(symmetric.trace()).unwrap();
    let estimate = found.trace.unwrap();
    assert!(estimate.standard_error.unwrap() < 1e-2 * trace.abs());
    near(estimate.value, trace, 1e-2);
}
