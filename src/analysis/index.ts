// Measures of flatness and what is plotted of it. Each leaves the model as it was, bit for bit.

export type {
  AllLayerMarginOptions,
  HessianOptions,
  InterpolationOptions,
  SharpnessMeasureOptions,
  SurfaceOptions,
  TrajectoryOptions,
} from '../options/analysis.js';
export { type BoundOptions, type PacBayesBound, pacBayesBound } from './bound.js';
export { type Eigenvalue, type Hessian, hessian, type SpectralDensity } from './hessian.js';
export { interpolation, type Line, type Surface, surface, type Trajectory, trajectory } from './landscape.js';
export { type AllLayerMargins, allLayerMargin } from './margin.js';
export type { MeasureControl, Progress } from './measure.js';
export { type Sharpness, type SharpnessPoint, sharpness } from './sharpness.js';
