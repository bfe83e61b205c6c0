// Descent from three starts: from three neighbouring points plain gradient descent ends in the wide, the middle and the
// narrow minimum of a surface, and nothing in the loss tells them apart.
import { defineFigure } from './figure.js';
import { type Gradient, type Loss, plain, step, type Weights } from './plane.js';
import { colours, contourColours, contours, dots, note, path } from './style.js';

interface Well {
  readonly name: string;
  readonly centre: Weights;
  /** Standard deviation of the Gaussian that is cut out of the surface. */
  readonly width: number;
  readonly start: Weights;
}

/** Wells of depth 1 each, far enough apart not to fill one another. */
const WELLS: readonly Well[] = [
  { name: 'wide', centre: [-1.5, 0.7], width: 1, start: [0.95, 0.8] },
  { name: 'middle', centre: [1.7, -1], width: 0.55, start: [1.25, 0.45] },
  { name: 'narrow', centre: [1.6, 1.6], width: 0.3, start: [1.4, 0.8] },
];

const bump = ({ centre: [a, b], width }: Well, [x, y]: Weights) =>
  Math.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * width * width));

/** One minus Gaussians. */
export const loss: Loss = (w) => WELLS.reduce((sum, well) => sum - bump(well, w), 1);

/** Gradient of {@link loss}. */
export const gradient: Gradient = (w) => {
  const terms = WELLS.map((well) => ({ factor: bump(well, w) / well.width ** 2, centre: well.centre }));
  const along = (axis: 0 | 1) => terms.reduce((sum, { factor, centre }) => sum + factor * (w[axis] - centre[axis]), 0);
  return [along(0), along(1)];
};

/** Largest eigenvalue of the Hessian, from central differences of the gradient. */
function curvature([x, y]: Weights): number {
  const h = 1e-5;
  const difference = (plus: Weights, minus: Weights): Weights => {
    const [a, b] = [gradient(plus), gradient(minus)];
    return [(a[0] - b[0]) / (2 * h), (a[1] - b[1]) / (2 * h)];
  };
  const [xx, xy] = difference([x + h, y], [x - h, y]);
  const [, yy] = difference([x, y + h], [x, y - h]);
  return (xx + yy) / 2 + Math.hypot((xx - yy) / 2, xy);
}

/** Points closer than this are not drawn apart. */
const RESOLUTION = 0.01;
const LR = 0.02;
const STEPS = 10_000;

/** A descent and the minimum that it ends in. */
export interface Descent {
  readonly name: string;
  readonly points: readonly Weights[];
  readonly end: Weights;
  readonly loss: number;
  readonly gradientNorm: number;
  /** Largest eigenvalue of the Hessian at the end. */
  readonly curvature: number;
}

function descend({ name, start }: Well): Descent {
  const points: Weights[] = [start];
  let w = start;
  for (let index = 1; index <= STEPS; index += 1) {
    w = step(gradient, w, LR, 0, plain);
    const [x, y] = points.at(-1) ?? start;
    if (Math.hypot(w[0] - x, w[1] - y) > RESOLUTION) points.push(w);
  }
  const [g, h] = gradient(w);
  return { name, points, end: w, loss: loss(w), gradientNorm: Math.hypot(g, h), curvature: curvature(w) };
}

const WINDOW = { x: [-4, 3.2], y: [-2.8, 2.8] } as const;

export const descentFigure = defineFigure({
  name: 'descent',
  summary: 'gradient descent from three starts ends in three minima',
  compute: () => ({ lr: LR, steps: STEPS, descents: WELLS.map(descend) }),
  draw({ descents }) {
    const series = [colours.flat, colours.asam, colours.sam];
    const ends = descents.map(({ name, curvature: value }) => `${name} ${value.toFixed(1)}`).join(', ');
    return {
      title: 'Descent from three starts',
      caption: `From three neighbouring points gradient descent ends in three minima. The losses there differ by less than ${spreadOf(descents)}, the largest eigenvalues of the Hessian by a factor of ten: ${ends}.`,
      legend: descents.map(({ name }, index) => ({ label: `into the ${name} minimum`, colour: series[index] ?? '' })),
      panels: [
        {
          title: 'loss over two weights',
          plot: {
            ...{ width: 720, height: 520, x: { domain: [...WINDOW.x], label: 'w1' } },
            y: { domain: [...WINDOW.y], label: 'w2' },
            color: contourColours([0, 1.4]),
            marks: [
              contours((x, y) => loss([x, y]), WINDOW, [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]),
              ...descents.flatMap(({ points, end }, index) => [
                path(points, { stroke: series[index] ?? '', strokeWidth: 2.4 }),
                dots(points.slice(0, 1), { fill: '#ffffff', stroke: series[index] ?? '', strokeWidth: 2, r: 4.5 }),
                dots([end], { fill: series[index] ?? '', r: 5 }),
              ]),
              ...descents.map(({ points: [start], end: [x, y], curvature: value }) =>
                note(x, y, `λmax ${value.toFixed(1)}`, { dy: start && start[1] > y + 1 ? 18 : -16, fontWeight: 600 }),
              ),
            ],
          },
        },
      ],
    };
  },
});

function spreadOf(descents: readonly Descent[]): string {
  const losses = descents.map(({ loss: value }) => value);
  const spread = Math.max(...losses) - Math.min(...losses);
  return (Math.ceil(spread * 100) / 100).toFixed(2);
}
