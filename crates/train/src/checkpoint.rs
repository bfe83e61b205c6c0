//! Checkpoints: a folder with weights, optimizer state and a manifest, from which a run goes on bit for bit on the CPU.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use flatmin_nn::{Model, Normalization};
use flatmin_optim::{AverageConfig, AverageCount, Averaging, Counters, Optimizer};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::events::CheckpointKind;
use crate::folder;
use crate::progress::Progress;
use crate::run_dir::checkpoint_in;

const FORMAT: u32 = 1;
const WEIGHTS: &str = "model.safetensors";
const AVERAGE: &str = "average.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const MANIFEST: &str = "state.json";

/// What fixes the sequence of batches: it must not change when a run goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchOrder {
    pub seed: u64,
    pub batch_size: usize,
    pub drop_last: bool,
    pub train_images: usize,
}

impl BatchOrder {
    pub fn new(config: &TrainConfig, train_images: usize) -> Self {
        Self { seed: config.seed, batch_size: config.batch_size, drop_last: config.drop_last, train_images }
    }
}

/// state.json.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    format: u32,
    progress: Progress,
    batch_order: BatchOrder,
    normalization: Option<Normalization>,
    optimizer: OptimizerState,
    #[serde(default)]
    average: Option<AverageState>,
}

/// What an average has beside its weights.
#[derive(Debug, Serialize, Deserialize)]
struct AverageState {
    config: AverageConfig,
    count: AverageCount,
}

/// What the optimizer has beside its tensors.
#[derive(Debug, Serialize, Deserialize)]
struct OptimizerState {
    counters: Counters,
    /// Hyper-parameters by name, one map a group.
    groups: Vec<BTreeMap<String, f64>>,
}

impl OptimizerState {
    fn of(optimizer: &Optimizer, model: &Model) -> Result<Self> {
        let groups = serde_json::to_value(optimizer.groups()).and_then(serde_json::from_value);
        let groups = groups.map_err(|error| Error::Internal(error.to_string()))?;
        Ok(Self { counters: optimizer.counters(model.parameters()), groups })
    }
}

/// What a checkpoint keeps.
pub struct Kept<'a> {
    pub model: &'a Model,
    pub optimizer: &'a Optimizer,
    pub average: Option<&'a Averaging>,
    pub progress: &'a Progress,
    pub order: &'a BatchOrder,
}

/// Writes a checkpoint in place of the one at `path`, which stays if anything fails.
///
/// # Errors
/// `ERR_FLATMIN_PATH` if the folder cannot be written.
pub fn save(path: &Path, kept: Kept<'_>) -> Result<()> {
    let Kept { model, optimizer, average, progress, order } = kept;
    let manifest = Manifest {
        format: FORMAT,
        progress: progress.clone(),
        batch_order: order.clone(),
        normalization: model.spec().normalization.clone(),
        optimizer: OptimizerState::of(optimizer, model)?,
        average: average.map(|average| AverageState { config: average.config().clone(), count: average.count() }),
    };
    folder::replace(path, |folder| {
        model.save(&folder.join(WEIGHTS))?;
        if let Some(average) = average.and_then(Averaging::model) {
            average.save(&folder.join(AVERAGE))?;
        }
        Tensor::write_safetensors(&optimizer.state_dict(model.parameters())?, folder.join(OPTIMIZER))?;
        let text = serde_json::to_string_pretty(&manifest).map_err(|error| Error::Internal(error.to_string()))?;
        let file = folder.join(MANIFEST);
        fs::write(&file, text + "\n").map_err(|error| Error::io("write", &file, error))
    })
}

/// A checkpoint whose manifest was read and found to fit the run.
pub struct Checkpoint {
    path: PathBuf,
    manifest: Manifest,
}

impl Checkpoint {
    /// Opens a checkpoint, or the last one of a run folder.
    ///
    /// # Errors
    /// `ERR_FLATMIN_PATH` if there is none, `ERR_FLATMIN_CHECKPOINT` if it is malformed.
    pub fn open(path: &Path) -> Result<Self> {
        let candidates =
            [path.to_path_buf(), checkpoint_in(path, CheckpointKind::Last)].map(|at| folder::readable(&at));
        let path = candidates.iter().find(|at| at.join(MANIFEST).exists()).unwrap_or(&candidates[0]);
        let file = path.join(MANIFEST);
        let text = fs::read_to_string(&file).map_err(|error| Error::io("read", &file, error))?;
        let manifest: Manifest = serde_json::from_str(&text)
            .map_err(|error| Error::checkpoint(path, format!("{MANIFEST} is malformed: {error}")))?;
        if manifest.format != FORMAT {
            let reason = format!("it has format {}; this version reads format {FORMAT}", manifest.format);
            return Err(Error::checkpoint(path, reason));
        }
        Ok(Self { path: path.clone(), manifest })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    /// `ERR_FLATMIN_CHECKPOINT` if the run would not see the same batches, or would average otherwise.
    pub fn require(&self, order: &BatchOrder, average: Option<&AverageConfig>) -> Result<()> {
        if let (Some(AverageState { config, .. }), Some(average)) = (&self.manifest.average, average)
            && config != average
        {
            let reason = format!(
                "its run had another average ({config:?}, now {average:?}); resume with the same options, or start a new run"
            );
            return Err(Error::checkpoint(&self.path, reason));
        }
        let saved = &self.manifest.batch_order;
        let differences: Vec<String> = [
            ("seed", saved.seed.to_string(), order.seed.to_string()),
            ("batchSize", saved.batch_size.to_string(), order.batch_size.to_string()),
            ("dropLast", saved.drop_last.to_string(), order.drop_last.to_string()),
            ("the number of training images", saved.train_images.to_string(), order.train_images.to_string()),
        ]
        .into_iter()
        .filter(|(_, saved, now)| saved != now)
        .map(|(what, saved, now)| format!("{what} was {saved} and is {now}"))
        .collect();
        if differences.is_empty() {
            return Ok(());
        }
        let differences = differences.join(", ");
        let reason =
            format!("its run had other batches ({differences}); resume with the same values, or start a new run");
        Err(Error::checkpoint(&self.path, reason))
    }

    /// Puts the average back, if the checkpoint has one.
    ///
    /// # Errors
    /// If its file is missing or malformed, or belongs to another model.
    pub fn restore_average(&self, averaging: &mut Averaging) -> Result<()> {
        match &self.manifest.average {
            Some(AverageState { count, .. }) if count.weights > 0 => {
                Ok(averaging.restore(&self.path.join(AVERAGE), *count)?)
            }
            _ => Ok(()),
        }
    }

    /// Puts weights, statistics, normalisation and optimizer state in place and answers how far the run was.
    ///
    /// # Errors
    /// If a file is missing or malformed, or belongs to another model or optimizer.
    pub fn restore(&self, model: &mut Model, optimizer: &mut Optimizer) -> Result<Progress> {
        let tensors = Tensor::read_safetensors(self.path.join(OPTIMIZER))
            .map_err(|error| Error::checkpoint(&self.path, error.to_string()))?;
        let state = &self.manifest.optimizer;
        optimizer.load_state(model, &tensors, &state.counters)?;
        for (group, values) in state.groups.iter().enumerate() {
            for (key, &value) in values {
                optimizer.set_group(group, key, value)?;
            }
        }
        model.load_weights(&self.path.join(WEIGHTS), true)?;
        model.set_normalization(self.manifest.normalization.clone())?;
        Ok(self.manifest.progress.clone())
    }
}
