// Sharp and flat minima, as everybody sketches them: the loss on new data is that of training, shifted a little, and the
// same shift costs more in a narrow valley. Here the sketch has numbers.
import * as Plot from '@observablehq/plot';
import { defineFigure, linspace } from './figure.js';
import { colours, note } from './style.js';

/** Quadratic valleys with curvatures 1 and 24, joined smoothly: -t log(sum of exp(-q / t)). */
const VALLEYS = [
  { name: 'flat', at: -1.1, curvature: 1, labelAt: -1.1 },
  { name: 'sharp', at: 1.35, curvature: 24, labelAt: 2.45 },
] as const;
const TEMPERATURE = 0.12;
const SHIFT = 0.22;
const RHO = 0.3;

/** Training loss of one weight. */
export function trainLoss(w: number): number {
  const exponents = VALLEYS.map(({ at, curvature }) => -(curvature * (w - at) ** 2) / 2 / TEMPERATURE);
  const largest = Math.max(...exponents);
  const sum = exponents.reduce((total, exponent) => total + Math.exp(exponent - largest), 0);
  return 0.1 - TEMPERATURE * (largest + Math.log(sum));
}

/** Loss on new data: the training loss, shifted. */
export const testLoss = (w: number) => trainLoss(w - SHIFT);

/** What there is to say about one of the minima. */
export interface Minimum {
  readonly name: 'flat' | 'sharp';
  readonly w: number;
  readonly trainLoss: number;
  readonly testLoss: number;
  readonly generalizationGap: number;
  /** Largest training loss within rho, minus the one at w. */
  readonly sharpness: number;
  /** Where its name is written. */
  readonly labelAt: number;
}

function minimum({ name, at, labelAt }: (typeof VALLEYS)[number]): Minimum {
  const [train, test] = [trainLoss(at), testLoss(at)];
  const within = linspace(at - RHO, at + RHO, 601).map(trainLoss);
  const sharpness = Math.max(...within) - train;
  return { name, w: at, trainLoss: train, testLoss: test, generalizationGap: test - train, sharpness, labelAt };
}

const curve = (loss: (w: number) => number) => linspace(-3, 3, 601).map((w): [number, number] => [w, loss(w)]);
const TOP = 1.9;

export const sharpAndFlatFigure = defineFigure({
  name: 'sharp-and-flat',
  summary: 'the same shift costs more in a sharp minimum than in a flat one',
  compute: () => ({
    ...{ rho: RHO, shift: SHIFT, minima: VALLEYS.map(minimum) },
    ...{ train: curve(trainLoss), test: curve(testLoss) },
  }),
  draw({ minima, train, test }) {
    const gaps = minima.map(({ name, generalizationGap }) => `${name} ${generalizationGap.toFixed(3)}`).join(', ');
    const around = (w: number) => train.filter(([x]) => Math.abs(x - w) <= RHO + 1e-9);
    return {
      title: 'Sharp and flat minima',
      caption: `Both minima have the same training loss. New data shift the curve by ${SHIFT}: the generalization gaps (arrows) become ${gaps}. Shaded: the neighbourhood of radius ${RHO}, whose height is the sharpness.`,
      legend: [
        { label: 'training loss', colour: colours.ink },
        { label: 'loss on new data', colour: colours.sam, dashed: true },
      ],
      panels: [
        {
          title: 'loss over one weight',
          plot: {
            ...{
              width: 820,
              height: 430,
              x: { label: 'w', domain: [-3, 3] },
              y: { label: 'loss', domain: [0, TOP] },
            },
            marks: [
              ...minima.map(({ name, w, trainLoss: low }) =>
                Plot.areaY(around(w), { x: '0', y1: low, y2: '1', fill: colours[name], fillOpacity: 0.28 }),
              ),
              Plot.ruleY([0]),
              Plot.line(train, { stroke: colours.ink, strokeWidth: 2.4, clip: true }),
              Plot.line(test, { stroke: colours.sam, strokeWidth: 2.2, strokeDasharray: '7 4', clip: true }),
              ...minima.flatMap(({ name, w, trainLoss: low, testLoss: high, sharpness, labelAt }) => [
                Plot.arrow([[w, low]], {
                  x1: w,
                  x2: w,
                  y1: low,
                  y2: high,
                  stroke: colours[name],
                  strokeWidth: 2.4,
                  headLength: 7,
                }),
                Plot.dot([[w, low]], { fill: colours[name], r: 5 }),
                note(labelAt, TOP, `${name} minimum\nsharpness ${sharpness.toFixed(3)}`, {
                  dy: 12,
                  fontWeight: 600,
                  lineAnchor: 'top',
                  fill: colours[name],
                }),
              ]),
            ],
          },
        },
      ],
    };
  },
});
