//! What is measured of a classifier over a data set: accuracy, top-5, calibration error, confusion matrix. Plain
//! arithmetic on the logits of a batch, added up batch by batch.

use serde::{Deserialize, Serialize};

/// Bins of the calibration error, as in Guo et al. 2017 (section 2): 15 of equal width.
const CALIBRATION_BINS: usize = 15;

/// What an evaluation reports beside loss, accuracy and top-5 (these cost nothing and are always there).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Metric {
    Accuracy,
    Top5,
    ConfusionMatrix,
    Ece,
}

/// The scores of a model on a data set. Accuracies are fractions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    pub count: u64,
    /// Mean over the images.
    pub loss: f64,
    pub accuracy: f64,
    /// Share of images whose class is among the five likeliest.
    pub top5: f64,
    /// Expected calibration error: mean over 15 bins of confidence of |accuracy - confidence|, weighted by count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ece: Option<f64>,
    /// `[true class][predicted class]`, counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion_matrix: Option<Vec<Vec<u64>>>,
}

#[derive(Clone, Default)]
struct CalibrationBin {
    count: u64,
    correct: u64,
    confidence: f64,
}

/// Adds up batches into an [`Evaluation`].
pub struct Accumulator {
    num_classes: usize,
    count: u64,
    loss_sum: f64,
    correct: u64,
    top5: u64,
    calibration: Option<Vec<CalibrationBin>>,
    confusion: Option<Vec<Vec<u64>>>,
}

impl Accumulator {
    pub fn new(num_classes: usize, metrics: &[Metric]) -> Self {
        let wants = |metric| metrics.contains(&metric);
        Self {
            num_classes,
            count: 0,
            loss_sum: 0.0,
            correct: 0,
            top5: 0,
            calibration: wants(Metric::Ece).then(|| vec![CalibrationBin::default(); CALIBRATION_BINS]),
            confusion: wants(Metric::ConfusionMatrix).then(|| vec![vec![0; num_classes]; num_classes]),
        }
    }

    /// Adds a batch. `logits` is `[labels.len(), num_classes]`, row by row; `mean_loss` the batch's mean loss. A row
    /// with a NaN counts as wrong. Ties go to the lower class.
    pub fn add(&mut self, logits: &[f64], labels: &[i64], mean_loss: f64) {
        self.count += labels.len() as u64;
        self.loss_sum += mean_loss * labels.len() as f64;
        for (row, &label) in logits.chunks_exact(self.num_classes).zip(labels) {
            self.add_row(row, label as usize);
        }
    }

    fn add_row(&mut self, row: &[f64], label: usize) {
        let valid = row.iter().all(|value| !value.is_nan());
        let ahead = |(class, value): (usize, &f64)| *value > row[label] || (*value == row[label] && class < label);
        let rank = row.iter().enumerate().filter(|&entry| ahead(entry)).count();
        let correct = valid && rank == 0;
        self.correct += u64::from(correct);
        self.top5 += u64::from(valid && rank < 5);
        let predicted = argmax(row);
        if let Some(confusion) = &mut self.confusion {
            confusion[label][predicted] += 1;
        }
        if let (Some(bins), true) = (&mut self.calibration, valid) {
            let confidence = softmax_at(row, predicted);
            // Bins are (i/15, (i+1)/15], as in the paper.
            let index = (confidence * CALIBRATION_BINS as f64).ceil() as usize;
            let bin = &mut bins[index.clamp(1, CALIBRATION_BINS) - 1];
            bin.count += 1;
            bin.correct += u64::from(correct);
            bin.confidence += confidence;
        }
    }

    pub fn finish(self) -> Evaluation {
        let count = self.count.max(1) as f64;
        let gap = |bin: &CalibrationBin| (bin.correct as f64 - bin.confidence).abs() / count;
        Evaluation {
            count: self.count,
            loss: self.loss_sum / count,
            accuracy: self.correct as f64 / count,
            top5: self.top5 as f64 / count,
            ece: self.calibration.map(|bins| bins.iter().map(gap).sum()),
            confusion_matrix: self.confusion,
        }
    }
}

/// The class with the highest logit, the lowest of equals; NaN never wins.
fn argmax(row: &[f64]) -> usize {
    let mut best = 0;
    for (class, value) in row.iter().enumerate() {
        if *value > row[best] || row[best].is_nan() {
            best = class;
        }
    }
    best
}

fn softmax_at(row: &[f64], class: usize) -> f64 {
    1.0 / row.iter().map(|value| (value - row[class]).exp()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_hot(classes: usize, winner: usize) -> Vec<f64> {
        (0..classes).map(|class| if class == winner { 3.0 } else { class as f64 / 100.0 }).collect()
    }

    #[test]
    fn counts_ranks() {
        let mut sums = Accumulator::new(7, &[]);
        let logits: Vec<f64> = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0].repeat(3);
        sums.add(&logits, &[0, 4, 5], 2.0);
        sums.add(&logits[..7], &[6], 6.0);
        let scores = sums.finish();
        assert_eq!((scores.count, scores.accuracy, scores.top5, scores.loss), (4, 0.25, 0.5, 3.0));
        assert!(scores.ece.is_none() && scores.confusion_matrix.is_none());
    }

    #[test]
    fn ties_go_to_the_lower_class_and_nan_is_wrong() {
        let mut sums = Accumulator::new(2, &[]);
        sums.add(&[1.0, 1.0, 1.0, 1.0, f64::NAN, 0.0, 0.0, f64::NAN], &[0, 1, 0, 0], 0.0);
        assert_eq!(sums.finish().accuracy, 0.25);
    }

    #[test]
    fn confusion_matrix_has_truth_in_rows() {
        let mut sums = Accumulator::new(3, &[Metric::ConfusionMatrix]);
        sums.add(&[one_hot(3, 2), one_hot(3, 1), one_hot(3, 2)].concat(), &[0, 1, 2], 0.0);
        assert_eq!(sums.finish().confusion_matrix.unwrap(), [[0, 0, 1], [0, 1, 0], [0, 0, 1]]);
    }

    #[test]
    fn calibration_error_is_confidence_minus_accuracy() {
        // Two classes with logit difference ln 3: confidence 0.75. Three of four right: calibrated. Half right: 0.25 off.
        let row = [3f64.ln(), 0.0].repeat(4);
        for (labels, expected) in [([0, 0, 0, 1], 0.0), ([0, 0, 1, 1], 0.25)] {
            let mut sums = Accumulator::new(2, &[Metric::Ece]);
            sums.add(&row, &labels, 0.0);
            assert!((sums.finish().ece.unwrap() - expected).abs() < 1e-12);
        }
    }
}
