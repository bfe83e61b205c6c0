//! Which normalisation images get on their way into a model: the model's own, else what the data set recommends.

use flatmin_data::Dataset;
use flatmin_nn::ModelSpec;
pub use flatmin_nn::Normalization;

/// The model's normalisation, or the data set's if the model has none.
pub fn input_normalization(spec: &ModelSpec, dataset: &Dataset) -> flatmin_data::Normalization {
    match &spec.normalization {
        Some(normalization) => for_data(normalization),
        None => dataset.normalization().clone(),
    }
}

/// What a model remembers of a data set's normalisation. The shortest decimal of each number is kept, so that 0.485
/// stays 0.485; [`for_data`] gives back the very same numbers.
pub fn for_model(normalization: &flatmin_data::Normalization) -> Normalization {
    let shortest = |value: &f32| value.to_string().parse().unwrap_or(f64::from(*value));
    Normalization {
        mean: normalization.mean.iter().map(shortest).collect(),
        std: normalization.std.iter().map(shortest).collect(),
    }
}

/// As the loaders take it.
pub fn for_data(normalization: &Normalization) -> flatmin_data::Normalization {
    let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
    flatmin_data::Normalization { mean: narrow(&normalization.mean), std: narrow(&normalization.std) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_remembers_the_numbers_exactly() {
        let given = flatmin_data::Normalization { mean: vec![0.485, 1.0 / 3.0], std: vec![0.229, 1e-3] };
        let kept = for_model(&given);
        assert_eq!(kept.mean[0], 0.485);
        assert_eq!(for_data(&kept), given);
    }
}
