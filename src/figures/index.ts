// The figures of `flatmin figures`, in the order in which they tell the story.
import { descentFigure } from './descent.js';
import { diagonalNetworkFigure } from './diagonal-network.js';
import type { Figure } from './figure.js';
import { regionFigure } from './region.js';
import { scaleInvarianceFigure } from './scale-invariance.js';
import { sharpAndFlatFigure } from './sharp-and-flat.js';
import { trajectoriesFigure } from './trajectories.js';

export type { Figure } from './figure.js';
export { drawLandscape, type Landscape } from './landscape.js';
export { type WrittenFigure, writeFigure, writePictures } from './write.js';

export const figures: readonly Figure[] = [
  descentFigure,
  sharpAndFlatFigure,
  scaleInvarianceFigure,
  trajectoriesFigure,
  regionFigure,
  diagonalNetworkFigure,
];
