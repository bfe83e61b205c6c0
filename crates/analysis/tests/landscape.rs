//! Lines, surfaces, paths and margins against what is known of them.

mod common;

use common::{conv, design, images, linear, near, quietly};
use flatmin_analysis::{
    Axis, LineEnd, LineOptions, MarginOptions, SurfaceOptions, TrajectoryOptions, all_layer_margins, interpolation,
    surface, trajectory,
};
use flatmin_data::Dataset;
use flatmin_nn::{Dtype, Model, ParamKind};
use flatmin_train::{EvaluateOptions, evaluate};
use tch::{Kind, Tensor, no_grad};

fn loss(model: &Model, set: &Dataset) -> f64 {
    evaluate(model, set, &EvaluateOptions::default(), &|| false).unwrap().unwrap().loss
}

#[test]
fn a_line_goes_from_one_model_to_the_other() {
    let set = images(4, 4, 30);
    for (dtype, tolerance) in [(Dtype::Float64, 1e-9), (Dtype::BFloat16, 1e-3)] {
        let mut model = conv(dtype);
        let other = Model::new(model.spec().clone(), dtype, 99).unwrap();
        // Statistics move along, too.
        no_grad(|| other.buffers().arena().shallow_clone().f_mul_scalar_(1.5).map(drop)).unwrap();
        let options = LineOptions { t: Axis { from: -1.0, to: 1.0, points: 5 }, ..Default::default() };
        let line = quietly(|monitor| interpolation(&mut model, &LineEnd::of(&other).unwrap(), &set, &options, monitor));
        assert_eq!(line.t, [-1.0, -0.5, 0.0, 0.5, 1.0]);
        near(line.loss[2], loss(&model, &set), tolerance);
        near(line.loss[4], loss(&other, &set), tolerance);
        let distance = no_grad(|| (other.parameters().master() - model.parameters().master()).norm());
        near(line.distance, distance.double_value(&[]), 1e-12);
    }
}

#[test]
fn a_surface_has_the_model_in_its_middle_and_directions_as_long_as_filters() {
    let set = images(4, 4, 30);
    let mut model = conv(Dtype::Float64);
    let axis = Axis { from: -1.0, to: 1.0, points: 3 };
    let options = SurfaceOptions { x: axis, y: axis, ..Default::default() };
    let measure = |model: &mut Model| quietly(|monitor| surface(model, &set, &options, monitor));
    let before = measure(&mut model);
    near(before.loss[1][1], loss(&model, &set), 1e-12);
    assert!(before.loss[0][0] != before.loss[2][2]);
    // Rescaled filters whose statistics go along are the same function, with the same surface (Li 2018, section 4).
    for (position, segment) in model.parameters().segments().to_vec().into_iter().enumerate() {
        if segment.kind == ParamKind::ConvWeight {
            let value = model.parameters().read(position).unwrap();
            model.parameters_mut().write(position, &(value * 4.0)).unwrap();
        }
    }
    for norm in 0..model.buffers().len() {
        let statistics = model.buffers().committed(norm);
        let _ = statistics.mean.shallow_clone().f_mul_scalar_(4.0).unwrap();
        let _ = statistics.variance.shallow_clone().f_mul_scalar_(16.0).unwrap();
    }
    let after = measure(&mut model);
    for (before, after) in before.loss.iter().flatten().zip(after.loss.iter().flatten()) {
        near(*after, *before, 1e-9);
    }
}

#[test]
fn a_path_in_a_plane_is_seen_undistorted() {
    let set = images(2, 3, 30);
    let mut model = linear();
    let folder = tempfile::tempdir().unwrap();
    let position = model.parameters().position("1.weight").unwrap();
    let end = model.parameters().read(position).unwrap();
    let corner = |row: i64, column: i64| {
        let unit = end.zeros_like();
        let _ = unit.get(row).get(column).fill_(1.0);
        unit
    };
    let (a, b) = (corner(0, 0), corner(2, 3));
    let places = [(4.0, 0.0), (2.0, 1.0), (1.0, -1.0), (0.0, 0.0)];
    let mut files = Vec::new();
    for (index, (along_a, along_b)) in places.iter().enumerate() {
        model.parameters_mut().write(position, &(&end + &a * *along_a + &b * *along_b)).unwrap();
        files.push(folder.path().join(format!("{index}.safetensors")));
        model.save(&files[index]).unwrap();
    }
    let options = TrajectoryOptions { points: 5, ..Default::default() };
    let found = quietly(|monitor| trajectory(&mut model, &files, &set, &options, monitor));
    near(found.explained[0] + found.explained[1], 1.0, 1e-9);
    let distance = |[x, y]: [f64; 2], [u, v]: [f64; 2]| f64::hypot(x - u, y - v);
    for (path, place) in found.path.windows(2).zip(places.windows(2)) {
        let expected = f64::hypot(place[0].0 - place[1].0, place[0].1 - place[1].1);
        near(distance(path[0], path[1]), expected, 1e-9);
    }
    assert!(found.path[3].iter().all(|coordinate| coordinate.abs() < 1e-9));
    let surface = found.surface.unwrap();
    assert_eq!((surface.loss.len(), surface.loss[0].len()), (5, 5));
    let monitor = flatmin_analysis::Monitor::new(&|_| {}, &|| false);
    let error = trajectory(&mut model, &files[..1], &set, &options, &monitor).unwrap_err();
    assert_eq!(error.code(), "ERR_FLATMIN_OPTION");
}

/// One layer: logits + delta norm(x), so the nearest wrong answer is (z_y - z_j) / (sqrt(2) norm(x)) away.
#[test]
fn the_margin_of_a_linear_classifier_is_known() {
    let set = images(2, 3, 40);
    let mut model = linear();
    let (rows, one_hot) = design(&model, &set);
    let read = |name: &str| model.parameters().read(model.parameters().position(name).unwrap()).unwrap();
    let weights = Tensor::cat(&[read("1.weight"), read("1.bias").unsqueeze(1)], 1);
    let logits = rows.matmul(&weights.transpose(0, 1));
    let right = (&logits * &one_hot).sum_dim_intlist(1i64, false, Kind::Double);
    let nearest = (&right - (&logits - &one_hot * 1e9).amax(1i64, false)) / 2.0_f64.sqrt();
    let inputs = rows.narrow(1, 0, 6).norm_scalaropt_dim(2.0, [1i64], false);
    let expected = Vec::<f64>::try_from((nearest / inputs).clamp_min(0.0)).unwrap();
    let found = quietly(|monitor| all_layer_margins(&mut model, &set, &MarginOptions::default(), monitor));
    assert_eq!((found.count, found.layers, found.not_found), (40, 1, 0));
    assert_eq!(found.misclassified, expected.iter().filter(|margin| **margin == 0.0).count());
    assert!(found.misclassified < 40);
    for (found, expected) in found.margins.iter().zip(&expected).filter(|(_, expected)| **expected > 0.0) {
        near(found.unwrap(), *expected, 1e-3);
    }
}

/// Several layers can only make it easier to go wrong than the last one alone.
#[test]
fn margins_of_deep_nets_are_found() {
    let set = images(4, 4, 30);
    let found =
        quietly(|monitor| all_layer_margins(&mut conv(Dtype::Float32), &set, &MarginOptions::default(), monitor));
    assert_eq!((found.layers, found.not_found), (3, 0));
    assert!(found.margins.iter().all(|margin| margin.is_some_and(|margin| (0.0..1.0).contains(&margin))));
}
