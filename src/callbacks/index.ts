// Callbacks of a run: the interface, and the ones that come with flatmin.

export type { Callback, TrainControl } from './callback.js';
export { CSVLogger, csvLoggerSchema } from './csv-logger.js';
export { EarlyStopping, earlyStoppingSchema } from './early-stopping.js';
export { LearningRateMonitor, type LearningRateRecord } from './learning-rate-monitor.js';
export { ModelCheckpoint, modelCheckpointSchema } from './model-checkpoint.js';
