// How figures look: the light palette of the reports, and grey contours that leave the colours to what moves on them.

import * as Plot from '@observablehq/plot';
import { light } from '../report/palette.js';
import type { Weights } from './plane.js';

const [blue = '', orange = '', green = '', purple = ''] = light.series;

/** What a colour stands for, in all figures. */
export const colours = {
  sgd: '#4b4f56',
  sam: orange,
  asam: blue,
  flat: green,
  sharp: purple,
  failed: '#b3261e',
  ink: light.ink,
  muted: light.muted,
  line: light.line,
} as const;

/** A square window of the plane. */
export interface Window {
  readonly x: readonly [number, number];
  readonly y: readonly [number, number];
}

/** Shades of a loss: the darker, the higher. */
export function contours(value: (x: number, y: number) => number, { x, y }: Window, thresholds: readonly number[]) {
  return Plot.contour({
    ...{ x1: x[0], y1: y[0], x2: x[1], y2: y[1], fill: value, thresholds: [...thresholds], pixelSize: 2 },
    ...{ stroke: '#ffffff', strokeWidth: 0.8, strokeOpacity: 0.9 },
  });
}

/** The scale of {@link contours}; `domain` in the loss's own numbers. */
export const contourColours = (domain: readonly [number, number]) => ({
  type: 'sqrt' as const,
  domain: [...domain],
  range: ['#f6f7f9', '#a9b0bb'],
  clamp: true,
});

/** A path through the plane. */
export const path = (points: readonly Weights[], options: Plot.LineOptions) =>
  Plot.line(points as Weights[], { curve: 'linear', strokeWidth: 1.8, strokeLinejoin: 'round', ...options });

/** Points of the plane. */
export const dots = (points: readonly Weights[], options: Plot.DotOptions) =>
  Plot.dot(points as Weights[], { r: 3.2, ...options });

/** Words in the plane, with a halo so that they are read on any ground. */
export const note = (x: number, y: number, text: string, options: Plot.TextOptions = {}) =>
  Plot.text([[x, y]], {
    ...{ text: [text], fill: colours.ink, stroke: '#ffffff', strokeWidth: 4, lineHeight: 1.2 },
    ...options,
  });
