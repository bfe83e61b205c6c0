// f(x; a) = (1/a) w1 ReLU(a w2 x) is the same function for every a > 0 (Kwon 2021, section 2). So are its loss and
// its generalization gap; its sharpness is not, its adaptive sharpness is.
import * as Plot from '@observablehq/plot';
import { defineFigure, logspace } from './figure.js';
import { elementWise, plain, sharpness, type Weights } from './plane.js';
import { colours } from './style.js';

type Sample = readonly [x: number, y: number];

/** Fitted exactly by w = (1, 1). */
const TRAIN: readonly Sample[] = [[1, 1]];
/** New data: a noisy f, and a negative input, for which the net says 0. */
const TEST: readonly Sample[] = [
  [0.5, 0.7],
  [1.5, 1.3],
  [2, 2.4],
  [-1, 0.2],
];
const RHO = 0.05;
const ETA = 0.01;

/** The net with its weights as they are: u1 = w1 / a, u2 = a w2. */
const output = ([u1, u2]: Weights, x: number) => u1 * Math.max(u2 * x, 0);

const meanSquare = (samples: readonly Sample[], u: Weights) =>
  samples.reduce((sum, [x, y]) => sum + (output(u, x) - y) ** 2, 0) / samples.length;

/** Everything at one a. */
export interface Rescaled {
  readonly a: number;
  readonly loss: number;
  readonly generalizationGap: number;
  readonly sharpness: number;
  /** With eta 0. */
  readonly adaptiveSharpness: number;
  readonly adaptiveSharpnessEta: number;
}

function at(a: number): Rescaled {
  const u: Weights = [1 / a, a];
  const loss = (w: Weights) => meanSquare(TRAIN, w);
  const train = loss(u);
  return {
    ...{ a, loss: train, generalizationGap: meanSquare(TEST, u) - train },
    sharpness: sharpness(loss, u, RHO, plain),
    adaptiveSharpness: sharpness(loss, u, RHO, elementWise()),
    adaptiveSharpnessEta: sharpness(loss, u, RHO, elementWise(ETA)),
  };
}

export const scaleInvarianceFigure = defineFigure({
  name: 'scale-invariance',
  summary: 'sharpness changes when weights are rescaled, adaptive sharpness does not',
  compute: () => ({ rho: RHO, eta: ETA, points: logspace(0.1, 10, 81).map(at) }),
  draw({ points }) {
    const ratio = at(10).sharpness / at(1).sharpness;
    const x = { type: 'log' as const, label: 'a', ticks: [0.1, 0.2, 0.5, 1, 2, 5, 10], tickFormat: String };
    const line = (y: keyof Rescaled, stroke: string, strokeDasharray = '') =>
      Plot.line(points, { x: 'a', y, stroke, strokeWidth: 2.6, strokeDasharray });
    const size = { width: 372, height: 330, x, grid: true };
    return {
      title: 'f(x; a) = (1/a) w1 ReLU(a w2 x): one function, many weights',
      caption: `Loss and generalization gap do not depend on a. Plain sharpness does: it is ${ratio.toFixed(1)} times higher at a = 10 than at a = 1. Adaptive sharpness is constant with eta = 0, and nearly so with eta = ${ETA}. w = (1, 1), rho = ${RHO}.`,
      legend: [
        { label: 'training loss', colour: colours.ink },
        { label: 'generalization gap', colour: colours.flat },
        { label: 'sharpness', colour: colours.sam },
        { label: 'adaptive sharpness', colour: colours.asam },
        { label: `the same with eta = ${ETA}`, colour: colours.asam, dashed: true },
      ],
      panels: [
        {
          title: 'loss and gap',
          plot: {
            ...size,
            y: { label: 'loss', domain: [0, 0.1] },
            marks: [line('generalizationGap', colours.flat), line('loss', colours.ink)],
          },
        },
        {
          title: 'sharpness',
          plot: {
            ...size,
            y: { label: 'sharpness', type: 'log', domain: [4e-3, 0.4], tickFormat: String, ticks: 4 },
            marks: [line('sharpness', colours.sam)],
          },
        },
        {
          title: 'adaptive sharpness',
          plot: {
            ...size,
            y: { label: 'adaptive sharpness', type: 'log', domain: [4e-3, 0.4], tickFormat: String, ticks: 4 },
            marks: [line('adaptiveSharpnessEta', colours.asam, '6 4'), line('adaptiveSharpness', colours.asam)],
          },
        },
      ],
    };
  },
});
