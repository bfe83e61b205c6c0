// What is made of the results of `benchmarks/gpu`: made-up ones, since no test needs a GPU.

import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { VARIANTS } from '../src/bench/train.js';
import { packageRoot } from '../src/native/paths.js';
import { temporaryFolder } from './support/folder.js';

const folder = temporaryFolder('gpu');
const program = (name: string) => join(packageRoot, 'benchmarks', 'gpu', name);

interface Row {
  readonly what: string;
  readonly value?: number;
  readonly met: boolean | null;
  readonly missing: { readonly name: string; readonly error?: string }[];
}

/** The rows and the table that bars.mjs makes of some results. */
async function bars(name: string, results: Record<string, object>) {
  const place = join(folder, name);
  mkdirSync(place);
  for (const [file, result] of Object.entries(results)) writeFileSync(join(place, file), JSON.stringify(result));
  const { stdout } = await promisify(execFile)(process.execPath, [program('bars.mjs'), place]);
  const rows = JSON.parse(readFileSync(join(place, 'bars.json'), 'utf8')) as Row[];
  const row = (what: string) => rows.find((candidate) => candidate.what === what);
  return { row, table: stdout.split('\n') };
}

describe('the bars', () => {
  const group = (names: readonly string[], speedup: number, device = 'cuda:0') => ({
    device,
    imagesPerSecond: 4000,
    peers: names.map((name) => ({ name, speedup })),
  });
  const best = 'ResNet-50 at 224, over the best peer';
  const [eager, others] = [VARIANTS.cuda.slice(0, 3), VARIANTS.cuda.slice(3)];

  it('are met or missed over all peers, whichever group they were measured in', async () => {
    const { row, table } = await bars('whole', {
      'resnet50-eager.json': group(eager, 3),
      'resnet50-graph.json': group(others, 1.2),
    });
    expect(row(best)).toMatchObject({ value: 1.2, met: false, missing: [] });
    expect(row('ResNet-50 at 224, images a second')).toMatchObject({ value: 4000, met: true });
    expect(table.find((line) => line.startsWith(best))).toMatch(/1\.2 +>= 1\.3 +MISSED$/);
  });

  it('name the peers that are missing, of a group that is absent too, and judge nothing without them', async () => {
    const [captured, ...compiled] = others;
    const without = { name: captured, error: 'no compiler' };
    const { row, table } = await bars('part', {
      'resnet50-eager.json': group(eager, 3),
      'resnet50-graph.json': { ...group([], 0), peers: [without] },
      'resnet20-eager.json': group(eager, 7),
    });
    expect(row(best)).toMatchObject({ value: 3, met: null });
    expect(row(best)?.missing).toEqual([without, ...compiled.map((name) => ({ name }))]);
    expect(table.find((line) => line.startsWith(best))).toContain(`no verdict without ${others.join(', ')}`);
    expect(row('ResNet-20, over the published code')).toMatchObject({ value: 7, met: true });
    expect(row('WRN-28-10, over the best peer')).toMatchObject({ met: null, missing: [] });
  });

  it('judge no figure of a CPU', async () => {
    const { row } = await bars('cpu', { 'resnet50-eager.json': group(['nchw'], 3, 'cpu') });
    expect(row(best)).toMatchObject({ value: 3, met: null, missing: [] });
  });

  it('take the update from the graph that was timed, and show its two main kernels and the profile beside it', async () => {
    const results = [
      { name: 'ASAM, perturb', n: 100, medianMs: 0.05 },
      { name: 'ASAM, sgd', n: 100, medianMs: 0.12 },
      { name: 'ASAM, all as a graph', n: 100, medianMs: 0.28 },
    ];
    const { row } = await bars('update', {
      'update.json': { device: 'NVIDIA H200', results },
      'profile-resnet50.json': { device: 'cuda', updateMs: 0.31 },
    });
    expect(row('update of 25.6 M parameters, ms')).toMatchObject({ value: 0.28, met: true });
    expect(row('  perturbation and descent alone')?.value).toBeCloseTo(0.17);
    expect(row('  the same update in a profile')).toMatchObject({ value: 0.31, met: null });
  });
});

describe('a profile', () => {
  /** Launches as Nsight Compute lists them: kernel and nanoseconds, and another metric between them. */
  const listed = (launches: [string, string, string][]) =>
    [
      '==PROF== Connected to process 1 (/usr/bin/node)',
      '"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"',
      ...launches.flatMap(([kernel, value, unit], id) => [
        `"${id}","${kernel}","launch__grid_size","","12"`,
        `"${id}","${kernel}","gpu__time_duration.sum","${unit}","${value}"`,
      ]),
    ].join('\n');
  const kernel = (name: string) => `void flatmin::<unnamed>::map_kernel<flatmin::<unnamed>::${name}<float>>(T1)`;
  const [perturb, descent] = [kernel('Perturb'), kernel('Descent')];
  const conv = 'sm90_xmma_fprop_implicit_gemm<T1, ""float"">';

  async function profile(name: string, launches: [string, string, string][]) {
    const [source, target] = [join(folder, `${name}.csv`), join(folder, `${name}.json`)];
    writeFileSync(source, listed(launches));
    const args = [program('kernels.mjs'), source, '--device', 'cpu', '--out', target];
    await promisify(execFile)(process.execPath, args);
    return JSON.parse(readFileSync(target, 'utf8')) as { [name: string]: number } & { kernels: object[] };
  }

  it('is taken over whole steps, after those in which algorithms are tried', async () => {
    const step: [string, string, string][] = [
      [perturb, '50,000', 'ns'],
      [conv, '1', 'ms'],
      [descent, '150', 'us'],
      [conv, '3', 'ms'],
    ];
    const found = await profile('steps', [
      [descent, '150', 'us'],
      [perturb, '50', 'us'],
      [conv, '900', 'ms'],
      ...[...step, ...step],
      ...step.slice(0, 2),
    ]);
    expect(found).toMatchObject({ steps: 2, launchesPerStep: 4 });
    expect(found['updateMs']).toBeCloseTo(0.2);
    expect(found['kernelMs']).toBeCloseTo(4.2);
    expect(found.kernels[0]).toMatchObject({ kernel: conv.replaceAll('""', '"'), msPerStep: 4 });
  });

  it('needs a whole step', async () => {
    await expect(profile('none', [[perturb, '50', 'us']])).rejects.toThrow(/no whole step: 1 perturbations/);
  });

  it('tells which kernels are those of the update', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [program('kernels.mjs'), '--pattern']);
    const pattern = new RegExp(stdout.trim());
    expect([perturb, descent, kernel('Norms')].every((name) => pattern.test(name))).toBe(true);
    expect([conv, kernel('Moments'), kernel('MeanLoss')].some((name) => pattern.test(name))).toBe(false);
  });
});

describe('run.sh', () => {
  // Stages that are left out without a GPU, so nothing is measured here.
  async function run(...args: string[]) {
    const env = { ...process.env, FLATMIN_PEERS_PYTHON: 'python3' };
    const all = [program('run.sh'), '--device', 'cpu', '--out', join(folder, 'run'), ...args];
    const done = promisify(execFile)('bash', all, { env });
    return done.then(
      ({ stderr }) => ({ code: 0, stderr }),
      ({ code, stderr }: { code: number; stderr: string }) => ({ code, stderr }),
    );
  }

  it('says what it leaves out, and packs what there is', async () => {
    const archive = join(folder, 'results', 'results.tar.gz');
    const { code, stderr } = await run('--archive', archive, 'update', 'profile', 'sanitizer');
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/update: skipped: .*\n.*\n.*profile: skipped: .*\n.*\n.*sanitizer: skipped: /);
    const { stdout } = await promisify(execFile)('tar', ['tzf', archive]);
    expect(stdout.split('\n')).toEqual(expect.arrayContaining(['./bars.json', './bars.txt', './profile.log']));
  });

  it('begins no stage that may take more time than is left', async () => {
    const { code, stderr } = await run('--total', '30', '--limit', '60', 'update');
    expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringMatching(/update: needs up to 60 s/) });
    expect(await run('--total', 'soon', 'update')).toMatchObject({ code: 2 });
  });
});
