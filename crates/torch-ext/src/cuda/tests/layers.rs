//! Batch norm and cross-entropy against libtorch's operations and their gradients.

use super::*;
use crate::channels_last;
use crate::norm_act::BatchNorm;

struct Outcome {
    y: Tensor,
    gradients: Vec<Tensor>,
    running: [Tensor; 2],
}

/// The inputs of one batch norm: a mean far from zero, since sums of squares must not cancel.
struct Inputs {
    x: Tensor,
    residual: Option<Tensor>,
    gamma: Tensor,
    beta: Tensor,
    dy: Tensor,
}

impl Inputs {
    fn new(kind: Kind, shape: [i64; 4], with_residual: bool) -> Self {
        let len = shape.iter().product::<i64>() as usize;
        let wide = if kind == Kind::Double { kind } else { Kind::Float };
        let activation = |salt, factor: f64, offset: f64| {
            channels_last(&(numbers(len, salt).reshape(shape) * factor + offset).to_kind(kind)).unwrap()
        };
        let parameter = |salt| numbers(shape[1] as usize, salt).to_kind(wide);
        Self {
            x: activation(1, 0.5, 3.0),
            residual: with_residual.then(|| activation(2, 1.0, 0.0)),
            gamma: parameter(3),
            beta: parameter(4),
            dy: activation(5, 1.0, 0.0),
        }
    }

    fn running(&self) -> [Tensor; 2] {
        [self.gamma.zeros_like(), self.gamma.ones_like()]
    }

    fn ours(&self, relu: bool) -> Outcome {
        self.of(self.x.kind(), |x, residual, norm| Place::twin().batch_norm_relu(x, residual, norm, relu).unwrap())
    }

    /// libtorch's operations in this dtype.
    fn theirs(&self, kind: Kind, relu: bool) -> Outcome {
        self.of(kind, |x, residual, norm| {
            let (mean, variance) = norm.running.unzip();
            let (gamma, beta) = (Some(norm.gamma), Some(norm.beta));
            let mut y = x.batch_norm(gamma, beta, mean, variance, true, norm.momentum, norm.eps, false);
            if let Some(residual) = residual {
                y += residual;
            }
            if relu { y.relu() } else { y }
        })
    }

    /// Output and gradients, with activations of this dtype.
    fn of(&self, kind: Kind, layer: impl Fn(&Tensor, Option<&Tensor>, &BatchNorm<'_>) -> Tensor) -> Outcome {
        let wide = if kind == Kind::Double { kind } else { Kind::Float };
        let leaf = |tensor: &Tensor, kind: Kind| tensor.to_kind(kind).detach().set_requires_grad(true);
        let (x, gamma, beta) = (leaf(&self.x, kind), leaf(&self.gamma, wide), leaf(&self.beta, wide));
        let residual = self.residual.as_ref().map(|residual| leaf(residual, kind));
        let running = self.running().map(|statistics| statistics.to_kind(wide));
        let statistics = Some((&running[0], &running[1]));
        let norm = BatchNorm { gamma: &gamma, beta: &beta, running: statistics, momentum: 0.1, eps: 1e-5 };
        let y = layer(&x, residual.as_ref(), &norm);
        (&y * self.dy.to_kind(kind)).sum(kind).backward();
        let leaves = [Some(&x), residual.as_ref(), Some(&gamma), Some(&beta)];
        let gradients = leaves.into_iter().flatten().map(Tensor::grad).collect();
        Outcome { y: y.detach(), gradients, running }
    }
}

/// The largest difference in units of the largest magnitude.
fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let difference = (found.to_kind(Kind::Double) - expected.to_kind(Kind::Double)).abs().max();
    difference.double_value(&[]) / expected.to_kind(Kind::Double).abs().max().double_value(&[])
}

#[test]
fn batch_norm_is_libtorchs() {
    // Channels that fill packs and ones that do not, rows for one slice and for many, columns that are no power of two.
    let shapes = [[4, 16, 9, 9], [3, 5, 7, 3], [2, 160, 5, 5], [1, 1, 2, 3], [8, 64, 33, 31]];
    for (kind, reference, tolerance) in [
        (Kind::Double, Kind::Double, 1e-11),
        // Statistics and sums in float32, against float64 throughout.
        (Kind::Float, Kind::Double, 1e-4),
        // One rounding to 8 bits of what is stored.
        (Kind::BFloat16, Kind::Double, 1.0 / 128.0),
    ] {
        for shape in shapes {
            for (with_residual, relu) in [(false, true), (true, true), (false, false), (true, false)] {
                let inputs = Inputs::new(kind, shape, with_residual);
                let (ours, theirs) = (inputs.ours(relu), inputs.theirs(reference, relu));
                let case = format!("{kind:?} {shape:?} residual {with_residual} relu {relu}");
                assert!(error(&ours.y, &theirs.y) < tolerance, "y of {case}: {}", error(&ours.y, &theirs.y));
                for (index, (found, expected)) in ours.gradients.iter().zip(&theirs.gradients).enumerate() {
                    // Where the output rounds to the other side of 0 a whole gradient is gained or lost.
                    let found_error = match kind {
                        Kind::Double => error(found, expected),
                        _ => distance(found, expected),
                    };
                    assert!(found_error < tolerance, "gradient {index} of {case}: {found_error}");
                }
                for (found, expected) in ours.running.iter().zip(&theirs.running) {
                    assert!(error(found, expected) < tolerance, "statistics of {case}");
                }
            }
        }
    }
}

/// norm2(found - expected) / norm2(expected).
fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    let norm = |tensor: Tensor| tensor.square().sum(Kind::Double).sqrt().double_value(&[]);
    let expected = expected.to_kind(Kind::Double);
    norm(found.to_kind(Kind::Double) - &expected) / norm(expected).max(1e-12)
}

#[test]
fn batch_norm_needs_two_values_a_channel() {
    let inputs = Inputs::new(Kind::Float, [1, 4, 1, 1], false);
    let norm = BatchNorm { gamma: &inputs.gamma, beta: &inputs.beta, running: None, momentum: 0.1, eps: 1e-5 };
    let error = Place::twin().batch_norm_relu(&inputs.x, None, &norm, true).unwrap_err();
    assert!(error.to_string().contains("more than one value per channel"), "{error}");
}

#[test]
fn cross_entropy_is_libtorchs() {
    for (kind, tolerance) in [(Kind::Double, 1e-13_f64), (Kind::Float, 1e-6), (Kind::BFloat16, 4e-3)] {
        for (rows, classes) in [(7, 10), (300, 3), (65, 1000), (1, 1)] {
            for smoothing in [0.0, 0.2] {
                let logits = (numbers((rows * classes) as usize, 1).reshape([rows, classes]) * 8.0).to_kind(kind);
                let labels = Tensor::arange(rows, (Kind::Int64, Device::Cpu)).remainder(classes);
                let own = logits.detach().set_requires_grad(true);
                let (loss, correct) = entropy(&own, &labels, smoothing).unwrap();
                (&loss * 3.0).backward();

                let leaf = logits.to_kind(Kind::Double).detach().set_requires_grad(true);
                let theirs = leaf.cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Mean, -100, smoothing);
                (&theirs * 3.0).backward();
                // The loss is float32 at least; gradients round to the logits' format.
                assert_close(&loss, &theirs, tolerance.min(1e-6));
                assert_close(&(own.grad().to_kind(Kind::Double) * rows), &(leaf.grad() * rows), tolerance);
                let expected = logits.argmax(1, false).eq_tensor(&labels).sum(Kind::Int64);
                assert_eq!(correct, expected.int64_value(&[]));
            }
        }
    }
}

/// The loss, and how many are correct.
fn entropy(logits: &Tensor, labels: &Tensor, smoothing: f64) -> crate::Result<(Tensor, i64)> {
    let correct = Tensor::zeros([1], (Kind::Int64, Device::Cpu));
    let loss = Place::twin().cross_entropy(logits, labels, smoothing, Some(&correct))?;
    Ok((loss, correct.int64_value(&[0])))
}

#[test]
fn ties_go_to_the_first_class_and_unknown_labels_to_nan() {
    let logits = Tensor::from_slice(&[1.0f32, 2.0, 2.0, 2.0, 1.0, 2.0]).reshape([2, 3]);
    let labels = Tensor::from_slice(&[1_i64, 2]);
    assert_eq!(entropy(&logits, &labels, 0.0).unwrap().1, 1);
    for label in [-1_i64, 3] {
        let labels = Tensor::from_slice(&[1, label]);
        assert!(entropy(&logits, &labels, 0.0).unwrap().0.double_value(&[]).is_nan());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let logits = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
    let labels = |count: i64| Tensor::zeros([count], (Kind::Int64, Device::Cpu));
    assert!(entropy(&logits, &labels(5), 0.0).is_err());
    assert!(entropy(&logits.to_kind(Kind::Half), &labels(2), 0.0).is_err());
}

#[test]
fn fused_layers_have_no_second_derivative() {
    let inputs = Inputs::new(Kind::Double, [4, 6, 5, 3], false);
    let x = inputs.x.detach().set_requires_grad(true);
    let norm = BatchNorm { gamma: &inputs.gamma, beta: &inputs.beta, running: None, momentum: 0.1, eps: 1e-5 };
    let y = Place::twin().batch_norm_relu(&x, None, &norm, true).unwrap();
    let twice = Tensor::f_run_backward(&[y.sum(Kind::Double)], &[&x], true, true);
    assert!(twice.unwrap_err().to_string().contains("no second derivative"));
}
