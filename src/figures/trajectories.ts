// Where SAM and ASAM go on the contours of the net w1 ReLU(w2) (Kwon 2021, figure 3 b): from 25 starts, ASAM always reaches
// the valley; SAM freezes where its round ball, large against a small w2, reaches over to where the ReLU is dead.
import * as Plot from '@observablehq/plot';
import { defineFigure, linspace } from './figure.js';
import { elementWise, type Gradient, norm, plain, step, type Weights } from './plane.js';
import { colours, contourColours, contours, dots, note, path } from './style.js';

const TARGET = 0.04;
const LR = 1e-3;
const STEPS = 20_000;
/** A start is successful when the residuals of its last steps are all smaller than this. */
const TOLERANCE = 0.004;
const LAST = 200;
const GRID = [0.05, 0.1, 0.2, 0.4, 0.8];
/** Radii that are counted, and the one that is drawn. */
export const RADII = [0.05, 0.1, 0.2, 0.5] as const;
export const DRAWN = 0.2;

const methods = { SAM: plain, ASAM: elementWise() } as const;
type Method = keyof typeof methods;

const output = ([a, b]: Weights) => a * Math.max(b, 0);
const residual = (w: Weights) => Math.abs(output(w) - TARGET);

/** Of abs(w1 ReLU(w2) - target). */
const gradient: Gradient = (w) => {
  const sign = Math.sign(output(w) - TARGET);
  return w[1] > 0 ? [sign * w[1], sign * w[0]] : [0, 0];
};

/**
 * Whether SAM cannot leave w: below the target the ascent lowers w2 by rho w1 / norm(w), and where that reaches 0 the
 * gradient at w + eps vanishes. It looks at w alone, not at steps.
 */
export const freezes = (w: Weights, rho: number) => output(w) < TARGET && w[1] <= (rho * w[0]) / norm(w);

/** One start. */
export interface Trajectory {
  readonly start: Weights;
  readonly end: Weights;
  readonly points: readonly Weights[];
  /** Whether it ended in the valley. */
  readonly reached: boolean;
  /** The first step at which SAM was frozen outside the valley; null for never, and for ASAM. Inside it, it has arrived. */
  readonly frozenAt: number | null;
}

/** Points closer than this are not drawn apart. */
const RESOLUTION = 0.004;

function follow(start: Weights, rho: number, method: Method): Trajectory {
  const scale = methods[method];
  const points = [start];
  let w = start;
  let frozenAt: number | null = null;
  let lastFar = -1;
  for (let index = 0; index < STEPS; index += 1) {
    const stuck = method === 'SAM' && freezes(w, rho) && residual(w) >= TOLERANCE;
    if (stuck) frozenAt ??= index;
    w = step(gradient, w, LR, rho, scale);
    if (!(residual(w) < TOLERANCE)) lastFar = index;
    const [x, y] = points.at(-1) ?? start;
    if (Math.hypot(w[0] - x, w[1] - y) > RESOLUTION) points.push(w);
  }
  return { start, end: w, points: [...points, w], reached: lastFar < STEPS - LAST, frozenAt };
}

const STARTS = GRID.flatMap((a) => GRID.map((b): Weights => [a, b]));

const run = (rho: number, method: Method) => STARTS.map((start) => follow(start, rho, method));

const reachedBy = (trajectories: readonly Trajectory[]) => trajectories.filter(({ reached }) => reached).length;

/** Where SAM freezes, as the highest w2 for each w1. */
function frozenRegion(rho: number): Weights[] {
  return linspace(1e-3, 0.95, 200).map((a) => {
    // w2 = rho w1 / norm(w), solved for w2, but not above the valley.
    const square = (Math.sqrt(a ** 4 + 4 * rho * rho * a * a) - a * a) / 2;
    return [a, Math.min(Math.sqrt(square), TARGET / a)];
  });
}

const WINDOW = { x: [0, 0.95], y: [0, 0.95] } as const;

export const trajectoriesFigure = defineFigure({
  name: 'trajectories',
  summary: 'from 25 starts ASAM reaches the valley of a two-weight net, SAM freezes at some',
  compute() {
    const trajectories = { SAM: run(DRAWN, 'SAM'), ASAM: run(DRAWN, 'ASAM') };
    const reached = RADII.map((rho) => ({
      rho,
      SAM: reachedBy(rho === DRAWN ? trajectories.SAM : run(rho, 'SAM')),
      ASAM: reachedBy(rho === DRAWN ? trajectories.ASAM : run(rho, 'ASAM')),
    }));
    return { target: TARGET, lr: LR, steps: STEPS, starts: STARTS.length, rho: DRAWN, reached, trajectories };
  },
  draw({ rho, starts, reached, trajectories }) {
    const counts = reached.map((row) => `rho ${row.rho}: SAM ${row.SAM}, ASAM ${row.ASAM}`).join('; ');
    const valley = linspace(TARGET / 0.95, 0.95, 200).map((a): Weights => [a, TARGET / a]);
    const panel = (method: Method, colour: string) => ({
      title: `${method}, rho = ${rho}: ${reachedBy(trajectories[method])} of ${starts} reach the valley`,
      plot: {
        ...{ width: 540, height: 520, color: contourColours([0, 0.9]) },
        x: { domain: [...WINDOW.x], label: 'w1' },
        y: { domain: [...WINDOW.y], label: 'w2' },
        marks: [
          contours((x, y) => residual([x, y]), WINDOW, linspace(0.04, 0.92, 12)),
          ...(method === 'SAM' ? frozenMarks(rho) : []),
          path(valley, { stroke: colours.ink, strokeWidth: 2, clip: true }),
          ...trajectories[method].flatMap(({ points, start, end, reached: success }) => {
            const stroke = success ? colour : colours.failed;
            return [
              path(points, { stroke, strokeWidth: 1.5 }),
              dots([start], { fill: '#ffffff', stroke, r: 3 }),
              dots([end], { fill: stroke, r: success ? 2.6 : 4, symbol: success ? 'circle' : 'square' }),
            ];
          }),
        ],
      },
    });
    return {
      title: 'SAM and ASAM on the contours of |w1 ReLU(w2) - 0.04|',
      caption: `Starts that reach the valley, of ${starts}: ${counts}. Shaded: where SAM cannot move, since its ball reaches over to w2 < 0, where the ReLU is dead. ASAM's ball shrinks with w2 and never gets there.`,
      legend: [
        { label: 'valley, loss 0', colour: colours.ink },
        { label: 'SAM', colour: colours.sam },
        { label: 'ASAM', colour: colours.asam },
        { label: 'frozen', colour: colours.failed, dot: true },
      ],
      panels: [panel('SAM', colours.sam), panel('ASAM', colours.asam)],
    };
  },
});

const frozenMarks = (rho: number) => [
  Plot.areaY(frozenRegion(rho), { x: '0', y1: 0, y2: '1', fill: colours.failed, fillOpacity: 0.2 }),
  note(0.62, 0.025, 'frozen', { fill: colours.failed, fontWeight: 600 }),
];
