// flatmin: training to flat minima from Node.js. What this file exports is the public interface.
// Importing it loads no native code; the first model, tensor or data set does, or `load()` ahead of time.

export * as analysis from './analysis/index.js';
export type { Batch, Labels } from './batch.js';
export type { Callback, TrainControl } from './callbacks/index.js';
export * as callbacks from './callbacks/index.js';
export type { Dataset, DatasetDescription, DatasetItem, DatasetSource } from './dataset.js';
export type {
  ArraysInput,
  DownloadOptions,
  Inspection,
  JobOptions,
  JobProgress,
  Manifest,
  Pixels,
  Sample,
  Shown,
  Verification,
} from './datasets.js';
export * as datasets from './datasets.js';
export type { Device } from './device.js';
export { type ErrorCode, FlatminError } from './errors.js';
export {
  AbortError,
  type AveragedScores,
  type CheckpointEvent,
  type EndEvent,
  type EpochEvent,
  type Evaluation,
  type FailureEvent,
  type FinishedHistory,
  type History,
  type RecordedEvent,
  type StartEvent,
  type StepEvent,
  type TrainEvent,
  type TrainResult,
  type TrainScores,
} from './events.js';
export * as layers from './layers.js';
export { type LoadOptions, load } from './load.js';
export { type LoadReport, Model, type Prediction, type StateDict } from './model.js';
export type { ModelSpec } from './model-spec.js';
export type { LayerSummary, ModelSummary } from './model-summary.js';
export * as models from './models.js';
export { Adam, AdamW, type Optimizer, type PassInfo, type Rounding, SGD, type StepInfo } from './optimizer.js';
export type { DeviceName } from './options/fields.js';
export type {
  AdamOptions,
  AdamWOptions,
  ASAMOptions,
  Average,
  BackwardOptions,
  BatchesOptions,
  ESAMOptions,
  EvaluateOptions,
  ExtragradientOptions,
  ForwardOptions,
  FromSpecOptions,
  FSAMOptions,
  GeneratorOptions,
  GRSTOptions,
  GroupOptions,
  GSAMOptions,
  ImageShape,
  ImagesOptions,
  InputShape,
  LabelNoiseOptions,
  Layer,
  LoadModelOptions,
  LoadStateDictOptions,
  LoadWeightsOptions,
  LookSAMOptions,
  Loss,
  MomentumSchedule,
  MSAMOptions,
  Normalization,
  NpzOptions,
  PackOptions,
  PartOptions,
  PredictOptions,
  PreviewOptions,
  RandomPerturbationOptions,
  ReplaceOptions,
  RhoSchedule,
  RSTOptions,
  SAMONOptions,
  SAMOptions,
  Schedule,
  SequentialOptions,
  SGDOptions,
  SharpnessRules,
  Shortcut,
  SplitOptions,
  StepOptions,
  SVHNOptions,
  TensorDtype,
  TensorOptions,
  TorchScriptOptions,
  TrainingOptions,
  Variant,
  WSAMOptions,
  ZooOptions,
} from './options/index.js';
export { asamPresets, samPresets } from './options/presets.js';
export type { GroupSettings, ParameterGroup } from './parameter-group.js';
export type { Run } from './run.js';
export { ASAM, type AscentInfo, SAM, type SharpnessAware } from './sharpness-aware.js';
export { Tensor, type TensorArray, type TensorData } from './tensor.js';
export { type FitOptions, Trainer, type TrainerOptions } from './trainer.js';
export {
  ESAM,
  Extragradient,
  FSAM,
  GRST,
  GSAM,
  LookSAM,
  MSAM,
  RandomPerturbation,
  RST,
  SAMON,
  WSAM,
} from './variants.js';
