// `sharpness`, `hessian` and `landscape` on a run of `train`, as users call them.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { flatmin } from './support/cli.js';
import { temporaryFolder } from './support/folder.js';

const folder = temporaryFolder('measures');
const run = join(folder, 'run');

beforeAll(async () => {
  const args = [
    'train',
    '--epochs',
    '2',
    '--train-images',
    '200',
    '--threads',
    '1',
    '--keep-weights',
    '--run-dir',
    run,
  ];
  const { code, stderr } = await flatmin([...args, '--json']);
  expect([code, stderr]).toEqual([0, '']);
}, 120_000);
const onRun = ['--weights', '', '--limit', '100'];
const measured = (command: string, ...args: string[]) => flatmin([command, ...onRun.with(1, run), ...args]);

it('sharpness prints a document with a point for each radius, and the bound with its terms', async () => {
  const { code, stdout, stderr } = await measured(
    'sharpness',
    '--rho',
    '0.05,0.1',
    '--steps',
    '3',
    '--bound',
    '--json',
  );
  expect([code, stderr]).toEqual([0, '']);
  const { model, split, options, points, bounds, count } = JSON.parse(stdout);
  expect({ model, split, count }).toEqual({ model: 'demo', split: 'train', count: 100 });
  expect(options).toMatchObject({ method: 'ascent', rho: [0.05, 0.1], scale: 'none', steps: 3 });
  expect(points).toHaveLength(2);
  expect(points[1].sharpness).toBeGreaterThan(points[0].sharpness);
  expect(bounds[0].value).toBeGreaterThan(bounds[0].terms.complexity);
});

it('sharpness prints a table and assumptions for people', async () => {
  const args = ['--method', 'oneStep', '--p', 'inf', '--rho', '0.001', '--scale', 'element'];
  const { stdout } = await measured('sharpness', ...args);
  expect(stdout).toMatch(/rho +sharpness +deviation/);
  expect(stdout).toMatch(/worst to first order/);
  const bound = await measured('sharpness', '--method', 'oneStep', '--bound');
  expect(bound.stdout).toMatch(/PAC-Bayes bound on the expected error at rho 0.05/);
  expect(bound.stdout).toMatch(/assumes: the loss lies in \[0, 1\]/);
});

it('hessian prints eigenvalues, trace and density', async () => {
  const args = ['--top-k', '2', '--iterations', '8', '--trace-probes', '2', '--density', '--limit', '20'];
  const { code, stdout } = await measured('hessian', ...args, '--json');
  expect(code).toBe(0);
  const { eigenvalues, trace, density, smallest } = JSON.parse(stdout);
  expect(eigenvalues[0].value).toBeGreaterThan(smallest.value);
  expect(trace.probes).toBe(2);
  expect(density.eigenvalues).toHaveLength(256);
  expect((await measured('hessian', '--iterations', '1', '--limit', '20')).stdout).toMatch(/use more --iterations/);
});

it('landscape writes a surface, a line and the path of a run', async () => {
  const out = join(folder, 'figures', 'surface.json');
  const { code } = await measured('landscape', '--points', '3', '--out', out);
  expect(readFileSync(out.replace('.json', '.svg'), 'utf8')).toContain('Loss around a net');
  expect(readFileSync(out.replace('.json', '.png')).subarray(1, 4).toString()).toBe('PNG');
  expect(code).toBe(0);
  expect(JSON.parse(readFileSync(out, 'utf8'))).toMatchObject({ kind: 'surface', x: [-1, 0, 1], y: [-1, 0, 1] });
  const first = join(run, 'weights', 'epoch-1.safetensors');
  const line = JSON.parse((await measured('landscape', '--to', first, '--points', '5', '--json')).stdout);
  expect(line.kind).toBe('interpolation');
  expect(line.t).toHaveLength(5);
  const found = await flatmin(['landscape', '--trajectory', run, '--points', '3', '--limit', '50', '--json']);
  expect(found.code).toBe(0);
  const path = JSON.parse(found.stdout);
  expect(path).toMatchObject({ kind: 'trajectory', surface: { count: 50 } });
  expect(path.path).toHaveLength(2);
  expect(path.explained[0]).toBeCloseTo(1, 6);
});

it.each([
  [['sharpness'], /--weights is missing/],
  [['sharpness', '--weights', 'RUN', '--rho', '-1'], /'rho/],
  [['sharpness', '--weights', 'RUN', '--bound', '--m', '10'], /--bound needs the worst case/],
  [['sharpness', '--weights', 'RUN', '--metod', 'random'], /Did you mean --method/],
  [['hessian', '--weights', 'RUN', '--iterations', '0'], /'iterations'/],
  [['landscape', '--weights', 'RUN', '--to', 'a', '--trajectory', 'b'], /one of them at a time/],
  [['landscape', '--trajectory', 'FOLDER'], /found 0 kept weights.*--keep-weights/],
])('%j ends with code 2 and an empty stdout', async (args, message) => {
  const named = args.map((arg) => ({ RUN: run, FOLDER: folder })[arg] ?? arg);
  const { code, stdout, stderr } = await flatmin([...named, '--json']);
  expect(stderr).toMatch(message);
  expect([code, stdout]).toEqual([2, '']);
});

it('weights that are not there are an error that names them', async () => {
  const { code, stderr } = await flatmin(['hessian', '--weights', join(folder, 'nothing')]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/ERR_FLATMIN_PATH.*nothing/);
  expect(existsSync(join(folder, 'nothing'))).toBe(false);
});
