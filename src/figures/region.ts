// The neighbourhoods of w = (1, 1) and of A w for A = diag(3, 1/3), which leaves w1 w2 as it is (Kwon 2021, figure 2).
// A maps ASAM's neighbourhood of w onto ASAM's neighbourhood of A w; SAM's balls stay round and see other losses.
import { defineFigure, linspace } from './figure.js';
import { border, elementWise, type Loss, plain, type Scale, sharpness, type Weights } from './plane.js';
import { colours, contourColours, contours, dots, note, path } from './style.js';

const W: Weights = [1, 1];
const A: Weights = [3, 1 / 3];
const RHO = 0.25;

const loss: Loss = ([a, b]) => Math.abs(a * b - 1);
const transform = ([a, b]: Weights): Weights => [A[0] * a, A[1] * b];

/** The neighbourhoods of one method. */
export interface Regions {
  /** Border of the neighbourhood of w. */
  readonly atW: readonly Weights[];
  /** That border, mapped by A. */
  readonly mapped: readonly Weights[];
  /** Border of the neighbourhood of A w. */
  readonly atAw: readonly Weights[];
  readonly sharpness: { readonly atW: number; readonly atAw: number };
}

function regions(scale: Scale): Regions {
  const [atW, aw] = [border(W, RHO, scale), transform(W)];
  return {
    ...{ atW, mapped: atW.map(transform), atAw: border(aw, RHO, scale) },
    sharpness: { atW: sharpness(loss, W, RHO, scale), atAw: sharpness(loss, aw, RHO, scale) },
  };
}

/** With the size of the panels, one unit is as long on both axes. */
const WINDOW = { x: [0, 4], y: [0, 1.8] } as const;
const SIZE = { width: 570, height: 285, marginLeft: 50, marginRight: 20, marginTop: 20, marginBottom: 40 };

export const regionFigure = defineFigure({
  name: 'region',
  summary: 'what a rescaling of the weights does to the neighbourhoods of SAM and ASAM',
  compute: () => ({ w: W, A, rho: RHO, SAM: regions(plain), ASAM: regions(elementWise()) }),
  draw(data) {
    const valley = linspace(1 / WINDOW.y[1], WINDOW.x[1], 200).map((x): Weights => [x, 1 / x]);
    const panel = (method: 'SAM' | 'ASAM', stroke: string) => {
      const { atW, mapped, atAw, sharpness: value } = data[method];
      return {
        title: `${method}: sharpness ${value.atW.toFixed(3)} at w, ${value.atAw.toFixed(3)} at A w`,
        plot: {
          ...{ ...SIZE, color: contourColours([0, 3]) },
          x: { domain: [...WINDOW.x], label: 'w1' },
          y: { domain: [...WINDOW.y], label: 'w2' },
          marks: [
            contours((x, y) => loss([x, y]), WINDOW, [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3]),
            path(valley, { stroke: colours.ink, strokeWidth: 1.6, clip: true }),
            ...[atW, atAw].map((points) => path(points, { stroke, strokeWidth: 2.6, fill: stroke, fillOpacity: 0.15 })),
            path(mapped, { stroke: colours.ink, strokeWidth: 2, strokeDasharray: '4 4' }),
            dots([W, transform(W)], { fill: colours.ink, r: 3.5 }),
            note(1, 1, 'w', { dx: 11, dy: -9, fontWeight: 600 }),
            note(3, 1 / 3, 'A w', { dx: 16, dy: -10, fontWeight: 600 }),
          ],
        },
      };
    };
    return {
      title: 'The neighbourhood of w = (1, 1) under A = diag(3, 1/3)',
      caption: `A leaves w1 w2 and so the loss |w1 w2 - 1| as they are. It maps ASAM's neighbourhood onto ASAM's neighbourhood of A w (dashed on solid); SAM's stays a circle, and sees another largest loss. rho = ${data.rho}.`,
      legend: [
        { label: 'loss 0', colour: colours.ink },
        { label: 'SAM: neighbourhoods of w and A w', colour: colours.sam },
        { label: 'ASAM: the same', colour: colours.asam },
        { label: 'neighbourhood of w, mapped by A', colour: colours.ink, dashed: true },
      ],
      panels: [panel('SAM', colours.sam), panel('ASAM', colours.asam)],
    };
  },
});
