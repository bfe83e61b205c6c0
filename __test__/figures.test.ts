// The figures: what their numbers must be, by formulas that do not come from the code that made them, and that the files
// hold pictures.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseHTML } from 'linkedom';
import { describe, expect, it } from 'vitest';
import { figuresCommand } from '../src/cli/commands/figures.js';
import { compose, wrap } from '../src/figures/compose.js';
import { descentFigure } from '../src/figures/descent.js';
import { diagonalNetworkFigure } from '../src/figures/diagonal-network.js';
import { drawLandscape, figures, type Landscape, writeFigure, writePictures } from '../src/figures/index.js';
import { elementWise, perturbation, plain, sharpness } from '../src/figures/plane.js';
import { regionFigure } from '../src/figures/region.js';
import { scaleInvarianceFigure } from '../src/figures/scale-invariance.js';
import { sharpAndFlatFigure } from '../src/figures/sharp-and-flat.js';
import { freezes, trajectoriesFigure } from '../src/figures/trajectories.js';
import { temporaryFolder } from './support/folder.js';

const folder = temporaryFolder('figures');

const range = (values: readonly number[]) => Math.max(...values) - Math.min(...values);

describe('plane', () => {
  it('finds the largest loss in the ball of a quadratic', () => {
    // Of 2 x^2 + y^2 / 2 with radius 0.3: 2 * 0.3^2; with T = diag(2, 8): the larger of 2 * 0.6^2 and 2.4^2 / 2.
    const loss = ([x, y]: readonly [number, number]) => 2 * x * x + (y * y) / 2;
    expect(sharpness(loss, [0, 0], 0.3, plain)).toBeCloseTo(0.18, 14);
    expect(sharpness(loss, [0, 0], 0.3, () => [2, 8])).toBeCloseTo(2.88, 13);
  });

  it('perturbs with radius rho in the metric of T', () => {
    const [e, f] = perturbation([0.3, -4], [2, 0.1], 0.7, elementWise());
    expect(Math.hypot(e / 2, f / 0.1)).toBeCloseTo(0.7, 14);
    expect(perturbation([0, 0], [1, 1], 0.7, plain)).toEqual([0, 0]);
  });
});

describe('f(x; a)', () => {
  const { points } = scaleInvarianceFigure.compute();
  const at = (a: number) => points.find((point) => Math.abs(point.a / a - 1) < 1e-12);

  it('keeps loss, gap and adaptive sharpness over a in [0.1, 10] to 1e-10', () => {
    expect(points[0]?.a).toBeCloseTo(0.1, 14);
    expect(points.at(-1)?.a).toBeCloseTo(10, 12);
    expect(range(points.map(({ loss }) => loss))).toBeLessThan(1e-10);
    expect(range(points.map(({ generalizationGap }) => generalizationGap))).toBeLessThan(1e-10);
    expect(range(points.map(({ adaptiveSharpness }) => adaptiveSharpness))).toBeLessThan(1e-10);
    // The largest of ((1 + d1) (1 + d2) - 1)^2 with norm2(d) = 0.05 lies at d1 = d2.
    const shift = 0.05 / Math.SQRT2;
    expect(points[0]?.adaptiveSharpness).toBeCloseTo(((1 + shift) ** 2 - 1) ** 2, 14);
  });

  it('has 48 +- 1 times the plain sharpness at a = 10', () => {
    const ratio = (at(10)?.sharpness ?? 0) / (at(1)?.sharpness ?? 0);
    expect(Math.abs(ratio - 48)).toBeLessThan(1);
    expect(at(0.1)?.sharpness).toBeCloseTo(at(10)?.sharpness ?? 0, 12);
  });

  it('has a gap to speak of, and an eta that is seen', () => {
    expect(points[0]?.generalizationGap).toBeGreaterThan(0.01);
    const eta = points.map(({ adaptiveSharpnessEta }) => adaptiveSharpnessEta);
    expect(range(eta) / Math.min(...eta)).toBeGreaterThan(0.05);
    expect(range(eta) / Math.min(...eta)).toBeLessThan(0.1);
  });
});

describe('trajectories', () => {
  const { reached, trajectories, rho } = trajectoriesFigure.compute();

  it('reach the valley from 25 of 25 starts with ASAM, and from fewer the larger rho with SAM', () => {
    expect(reached.map((row) => row.ASAM)).toEqual([25, 25, 25, 25]);
    expect(reached.map((row) => row.SAM)).toEqual([25, 21, 17, 9]);
  });

  it('freeze where the condition says, and nowhere else', () => {
    expect(rho).toBe(0.2);
    // The condition, written out anew: below the target, and w2 <= rho w1 / norm(w); here, outside the valley.
    const dead = ([a, b]: readonly [number, number]) => 0.04 - a * b >= 0.004 && b * Math.hypot(a, b) <= 0.2 * a;
    for (const { start, end, reached: success, frozenAt, points } of trajectories.SAM) {
      expect(frozenAt === null, `from ${start}`).toBe(success);
      const met = points.filter(dead);
      expect(met.length > 0, `from ${start}`).toBe(!success);
      // Where it holds, nothing moves any more.
      for (const w of met) expect(w).toEqual(end);
    }
    // Most of them are seen at the start already.
    expect(trajectories.SAM.filter(({ start }) => dead(start)).map(({ reached: success }) => success)).not.toContain(
      true,
    );
    expect(trajectories.SAM.filter(({ frozenAt }) => frozenAt === 0).length).toBeGreaterThan(4);
    expect(freezes([0.4, 0.05], 0.2)).toBe(true);
    expect(freezes([0.4, 0.2], 0.2)).toBe(false);
  });

  it('end on the valley', () => {
    for (const {
      end: [a, b],
    } of trajectories.ASAM)
      expect(Math.abs(a * b - 0.04)).toBeLessThan(0.004);
  });
});

describe('the region of w = (1, 1)', () => {
  const { SAM, ASAM } = regionFigure.compute();
  const distance = ({ mapped, atAw }: typeof SAM) =>
    Math.max(...mapped.map(([x, y], index) => Math.hypot(x - (atAw[index]?.[0] ?? 0), y - (atAw[index]?.[1] ?? 0))));

  it("is mapped by A onto ASAM's region of A w, and not onto SAM's", () => {
    expect(distance(ASAM)).toBeLessThan(1e-12);
    expect(distance(SAM)).toBeGreaterThan(0.4);
    expect(ASAM.sharpness.atAw).toBeCloseTo(ASAM.sharpness.atW, 12);
    expect(SAM.sharpness.atAw).toBeGreaterThan(1.5 * SAM.sharpness.atW);
  });
});

it('descent from three starts ends in three minima with the curvature of their width', () => {
  const { descents } = descentFigure.compute();
  expect(descents.map(({ name }) => name)).toEqual(['wide', 'middle', 'narrow']);
  for (const { gradientNorm } of descents) expect(gradientNorm).toBeLessThan(1e-8);
  // A Gaussian well of depth 1 and width s has the Hessian I / s^2 at its bottom; its neighbours change that a little.
  const expected = [1, 1 / 0.55 ** 2, 1 / 0.3 ** 2];
  for (const [index, { curvature }] of descents.entries()) expect(curvature / (expected[index] ?? 0)).toBeCloseTo(1, 1);
  expect(
    Math.hypot(...[0, 1].map((axis) => (descents[0]?.end[axis] ?? 0) - (descents[2]?.end[axis] ?? 0))),
  ).toBeGreaterThan(2);
});

it('the sharp minimum of the sketch pays more for the same shift', () => {
  const { minima } = sharpAndFlatFigure.compute();
  const [flat, sharp] = minima;
  expect(sharp?.trainLoss).toBeCloseTo(flat?.trainLoss ?? 0, 6);
  // Alone, the valleys are c (w - at)^2 / 2.
  expect(flat?.sharpness).toBeCloseTo(0.3 ** 2 / 2, 6);
  expect(sharp?.sharpness).toBeCloseTo((24 * 0.3 ** 2) / 2, 6);
  expect(flat?.generalizationGap).toBeCloseTo(0.22 ** 2 / 2, 6);
  expect(sharp?.generalizationGap).toBeCloseTo((24 * 0.22 ** 2) / 2, 6);
});

it('1-SAM finds the sparser solution of the diagonal network', () => {
  const { runs } = diagonalNetworkFigure.compute();
  const of = (method: string) => runs.filter((run) => run.method === method);
  for (const { trainLoss } of runs) expect(trainLoss).toBeLessThan(1e-4);
  for (const [index, run] of of('1-SAM').entries()) {
    const plainRun = of('GD')[index];
    expect(run.seed).toBe(plainRun?.seed);
    expect(run.testError).toBeLessThan(plainRun?.testError ?? 0);
    expect(run.norm1).toBeLessThan(plainRun?.norm1 ?? 0);
  }
}, 60_000);

describe('files', () => {
  it('are an SVG that stands alone, a PNG of twice its size and the numbers', async () => {
    const files = await writeFigure(sharpAndFlatFigure, folder);
    const svg = readFileSync(files.svg, 'utf8');
    expect(svg).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
    // The name space and nothing else has an address.
    expect(svg.match(/https?:/g)).toHaveLength(1);
    expect(svg).not.toMatch(/var\(--|NaN|undefined/);
    const [width, height] = ['width', 'height'].map((name) =>
      Number(svg.match(new RegExp(`<svg [^>]*${name}="(\\d+)"`))?.[1]),
    );
    const png = readFileSync(files.png);
    expect(png.subarray(1, 4).toString()).toBe('PNG');
    expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([2 * (width ?? 0), 2 * (height ?? 0)]);
    const { figure, minima } = JSON.parse(readFileSync(files.json, 'utf8')) as { figure: string; minima: unknown };
    expect(figure).toBe('sharp-and-flat');
    expect(minima).toEqual(JSON.parse(JSON.stringify(sharpAndFlatFigure.compute().minima)));
  });

  it('escape words and break long lines', () => {
    const drawing = sharpAndFlatFigure.draw(sharpAndFlatFigure.compute());
    const { document } = parseHTML(compose({ ...drawing, title: '<b> & "c"' }));
    expect(document.querySelector('text')?.textContent).toBe('<b> & "c"');
    expect(wrap('one two three', 60, 10)).toEqual(['one two', 'three']);
    expect(wrap('unbreakable', 10, 10)).toEqual(['unbreakable']);
  });

  it('can be chosen by the names that the command knows', () => {
    const { only } = figuresCommand.schema.parse({}) as { only: string[] };
    expect(only).toEqual(figures.map(({ name }) => name));
  });
});

describe('landscapes of trained nets', () => {
  const axis = [-1, 0, 1];
  const surface = {
    x: axis,
    y: axis,
    loss: axis.map((y) => axis.map((x) => 0.1 + x * x + 2 * y * y)),
    count: 9,
    accuracy: axis.map(() => [1, 1, 1]),
  };

  it.each<[string, Landscape]>([
    ['around a net', { kind: 'surface', ...surface }],
    [
      'with a loss that is not finite',
      {
        kind: 'surface',
        ...surface,
        loss: [
          [null, 1, 1],
          [1, 0.1, 1],
          [1, 1, 1],
        ],
      },
    ],
    [
      'on a line',
      {
        kind: 'interpolation',
        t: [0, 0.5, 1],
        loss: [0.1, null, 0.2],
        accuracy: [0.9, 0.5, 0.8],
        distance: 3,
        count: 9,
      },
    ],
    [
      'below a path',
      {
        kind: 'trajectory',
        path: [
          [-1, 0.5],
          [0, 0],
        ],
        explained: [0.8, 0.15],
        surface,
      },
    ],
    [
      'of a path alone',
      {
        kind: 'trajectory',
        path: [
          [-1, 0.5],
          [0, 0],
        ],
        explained: [0.8, 0.15],
        surface: null,
      },
    ],
  ])('are drawn %s', async (_, landscape) => {
    const { svg, png } = await writePictures(drawLandscape(landscape), join(folder, 'new', landscape.kind));
    expect(svg).toBe(join(folder, 'new', `${landscape.kind}.svg`));
    expect(readFileSync(svg, 'utf8')).not.toMatch(/NaN|undefined/);
    expect(readFileSync(png).subarray(1, 4).toString()).toBe('PNG');
  });
});
