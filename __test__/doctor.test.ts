// `flatmin doctor`: each thing that can be wrong is named with its fix, and the exit code says whether training would fail.

import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DoctorReport } from '../src/cli/doctor.js';
import { type DiagnosisWorld, diagnose, type Finding } from '../src/native/diagnose.js';
import { torchVersion } from '../src/native/libtorch-table.js';
import { flatmin } from './support/cli.js';
import { linux, writeLibtorch } from './support/libtorch.js';

let root: string;
let world: DiagnosisWorld;

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'flatmin-doctor-')));
  mkdirSync(join(root, 'native'));
  for (const name of ['flatmin', 'preload']) writeFileSync(join(root, 'native', `${name}.linux-x64-gnu.node`), '');
  const info = {
    torchVersion,
    threads: 2,
    cpuCapability: 'AVX2',
    cudaDevices: 0,
    addonVersion: '0.1.0',
  };
  world = {
    env: { FLATMIN_LIBTORCH: writeLibtorch(join(root, 'libtorch'), torchVersion), FLATMIN_PYTHON: '/nowhere/python3' },
    machine: linux,
    nodeVersion: '22.12.0',
    root,
    gpu: () => ({ driver: null, gpus: [] }),
    probe: (device) => ({ ok: true, info, gpus: [], device }),
  };
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

function finding(name: string, changes: Partial<DiagnosisWorld>): Finding | undefined {
  return diagnose({ ...world, ...changes }).find((candidate) => candidate.name === name);
}

describe('the diagnosis', () => {
  it('finds nothing wrong where nothing is', () => {
    const findings = diagnose(world);
    expect(findings.map(({ name }) => name)).toEqual([
      'Node.js',
      'Platform',
      'CPU',
      'Threads',
      'Memory',
      'libtorch',
      'Addon',
      'GPU',
      'Loading',
    ]);
    expect(findings.filter(({ state }) => state === 'bad')).toEqual([]);
  });

  it.each<[string, string, (world: DiagnosisWorld) => Partial<DiagnosisWorld>, RegExp]>([
    ['an old Node.js', 'Node.js', () => ({ nodeVersion: '20.18.1' }), /Node\.js 20\.19/],
    ['a platform without a build', 'Platform', () => ({ machine: { ...linux, libc: 'musl' } }), /glibc image/],
    [
      'a missing libtorch',
      'libtorch',
      ({ env }) => ({ env: { ...env, FLATMIN_LIBTORCH: '/nowhere' } }),
      /flatmin setup/,
    ],
    ['a missing addon', 'Addon', () => ({ root: join(root, 'libtorch') }), /npm install/],
    [
      'a library that crashes',
      'Loading',
      () => ({ probe: () => ({ ok: false, code: 'crash', message: 'ended with signal SIGILL' }) }),
      /remove the libtorch folder/,
    ],
    [
      'a library that does not load',
      'Loading',
      () => ({ probe: () => ({ ok: false, code: 'ERR_FLATMIN_ADDON', message: 'undefined symbol: x' }) }),
      /undefined symbol: x/,
    ],
  ])('calls %s bad and says how to mend it', (_, name, changes, fix) => {
    expect(finding(name, changes(world))).toMatchObject({ state: 'bad', fix: expect.stringMatching(fix) });
  });

  it('tries to load only what can load', () => {
    const probe = (): never => {
      throw new Error('must not be called');
    };
    expect(diagnose({ ...world, nodeVersion: '18.0.0', probe }).at(-1)?.name).toBe('GPU');
  });

  it('points out too many threads and an idle GPU without calling them failures', () => {
    const env = { ...world.env, OMP_NUM_THREADS: '100000' };
    expect(finding('Threads', { env })).toMatchObject({
      state: 'note',
      fix: expect.stringContaining('OMP_NUM_THREADS'),
    });
    const gpu = () => ({ driver: '580.1', gpus: [{ name: 'H200', memory: '143771 MiB' }] });
    expect(finding('GPU', { gpu })).toMatchObject({
      state: 'note',
      value: 'H200 (143771 MiB), driver 580.1',
      fix: expect.stringContaining('--device cuda'),
    });
  });
});

describe('the diagnosis of a GPU', () => {
  const driver = () => ({ driver: '580.1', gpus: [{ name: 'H200', memory: '143771 MiB' }] });
  const libtorch = (libraries: string[]) => ({
    ...world.env,
    FLATMIN_LIBTORCH: writeLibtorch(join(root, 'gpu'), torchVersion, libraries),
  });
  const probe =
    (info: object, gpus: string[] = []) =>
    (device: 'cpu' | 'cuda') => {
      const { probe } = world;
      const report = probe(device);
      return report.ok ? { ...report, info: { ...report.info, ...info }, gpus } : report;
    };
  const env = () => libtorch(['libtorch_cpu.so', 'libtorch_cuda.so']);

  it('loads with CUDA and shows what it found', () => {
    const seen = probe({ cudaDevices: 1, cudaLibrary: '/x/libflatmin_cuda_torch2.13.so' }, ['NVIDIA H200 (139.8 GiB)']);
    expect(finding('Loading', { gpu: driver, env: env(), probe: seen })).toMatchObject({
      state: 'ok',
      value: expect.stringContaining('NVIDIA H200 (139.8 GiB), libflatmin_cuda_torch2.13.so'),
    });
  });

  it.each([
    ['no CUDA library', { cudaDevices: 1, cudaLibraryProblem: 'there is none' }, /CUDA library: there is none/],
    ['no GPU that libtorch can use', { cudaDevices: 0 }, /driver 580/],
  ])('notes %s', (_, seen, fix) => {
    expect(finding('Loading', { gpu: driver, env: env(), probe: probe(seen) })).toMatchObject({
      state: 'note',
      fix: expect.stringMatching(fix),
    });
  });
});

describe('flatmin doctor', () => {
  it('loads everything in a child process and reports it as JSON', async () => {
    const { code, stdout } = await flatmin(['doctor', '--json']);
    const report = JSON.parse(stdout) as DoctorReport;
    expect(report.ok, stdout).toBe(true);
    expect(report.findings.at(-1)).toMatchObject({
      name: 'Loading',
      state: 'ok',
      value: expect.stringContaining('threads'),
    });
    expect(code).toBe(0);
  });
});
