// Every option set of flatmin: one zod schema each, from which types, checks, command-line flags, help and JSON Schema come.

export * from './analysis.js';
export * from './augment.js';
export * from './average.js';
export * from './data.js';
export * from './groups.js';
export * from './loss.js';
export * from './model.js';
export * from './optimizer.js';
export { nearest, parseOptions, suggestion } from './parse.js';
export * from './presets.js';
export * from './schedule.js';
export * from './sharpness.js';
export * from './tensor.js';
export * from './trainer.js';
export * from './variants.js';
