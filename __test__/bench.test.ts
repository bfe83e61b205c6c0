// The benches: how turns and medians are taken, and the documents that `flatmin bench` prints. No figure is judged here.
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { alternate } from '../src/bench/alternate.js';
import { timesOf, tryPeer } from '../src/bench/peer.js';
import { median, series } from '../src/bench/statistics.js';
import { hasNvidiaDriver } from '../src/native/driver.js';
import { flatmin } from './support/cli.js';
import { temporaryFolder } from './support/folder.js';
import { greyPng } from './support/png.js';

const TINY = ['--rounds', '2', '--steps', '2', '--warmup', '1', '--threads', '1'];

const folder = temporaryFolder('bench');

describe('alternate', () => {
  it('gives each contender its block in every round and leaves the first step of a block out', async () => {
    const calls: string[] = [];
    const contender = (name: string) => ({
      name,
      run: async (steps: number) => {
        calls.push(`${name}${steps}`);
        return { stepMs: Array<number>(steps).fill(calls.length) };
      },
    });
    const answers = await alternate([contender('a'), contender('b')], { rounds: 2, steps: 3 });
    expect(calls).toEqual(['a1', 'a3', 'b1', 'b3', 'a1', 'a3', 'b1', 'b3']);
    expect(answers.map(({ name, rounds }) => [name, rounds.flatMap((round) => timesOf(round, 'stepMs'))])).toEqual([
      ['a', [2, 2, 2, 6, 6, 6]],
      ['b', [4, 4, 4, 8, 8, 8]],
    ]);
  });
});

describe('statistics', () => {
  it('take the middle, or the mean of the two middle ones', () => {
    expect(median([9, 1, 5])).toBe(5);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(series([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3, n: 3 });
  });

  it('refuse an answer without times', () => {
    expect(() => timesOf({ loss: 1 }, 'stepMs')).toThrow(/'stepMs'/);
  });
});

describe('a peer', () => {
  /** Stands in for Python: what it is to run is not looked at. */
  function python(name: string, script: string): string {
    const path = join(folder, name);
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
    return path;
  }

  it('is told from one that ends, is not there, or does not get warm in time', async () => {
    const warm = await tryPeer('warm', python('warm', `echo '{"ready":true}'; cat`), 'torch_asam_train.py', {}, 60);
    expect(warm).toMatchObject({ name: 'warm', head: { ready: true } });
    await warm.peer?.[Symbol.asyncDispose]();
    const broken = await tryPeer('broken', python('broken', 'echo no compiler >&2; exit 1'), 'torch_asam_train.py', {});
    expect(broken).toEqual({ name: 'broken', error: "The peer 'broken' ended: no compiler" });
    const absent = await tryPeer('absent', join(folder, 'absent'), 'torch_asam_train.py', {});
    expect(absent).toEqual({ name: 'absent', error: expect.stringContaining('ENOENT') });
    const slow = await tryPeer('slow', python('slow', 'exec tail -f /dev/null'), 'torch_asam_train.py', {}, 0.1);
    expect(slow).toEqual({ name: 'slow', error: "The peer 'slow' was not warm after 0.1 s" });
  });
});

describe('flatmin bench --json', () => {
  it('train: step time, rate, settings and what it ran on; also as a file', async () => {
    const out = join(folder, 'results', 'train.json');
    const args = ['bench', 'train', '--model', 'demo', '--batch', '8', ...TINY, '--out', out, '--json'];
    const { code, stdout } = await flatmin(args);
    expect(code).toBe(0);
    const result = JSON.parse(stdout) as { stepMs: number; imagesPerSecond: number; spread: { stepMs: { n: number } } };
    expect(result).toMatchObject({
      model: 'demo',
      optimizer: 'asam',
      batch: 8,
      dtype: 'float32',
      peers: [],
      threads: 1,
    });
    expect(result.spread.stepMs.n).toBe(4);
    expect(result.imagesPerSecond).toBeCloseTo(8000 / result.stepMs, 0);
    expect(result).toMatchObject({ environment: { node: process.version, torch: expect.stringMatching(/^\d/) } });
    expect(JSON.parse(readFileSync(out, 'utf8'))).toEqual(result);
  });

  it('train: several optimizers in turns, as multiples of the first', async () => {
    const args = ['bench', 'train', '--model', 'demo', '--batch', '8', '--optimizer', 'sgd,asam', ...TINY, '--json'];
    const { code, stdout } = await flatmin(args);
    expect(code).toBe(0);
    const result = JSON.parse(stdout) as { optimizers: { name: string; relative: object }[] };
    expect(result).toMatchObject({ relativeTo: 'sgd', device: 'cpu' });
    expect(result.optimizers.map(({ name }) => name)).toEqual(['sgd', 'asam']);
    expect(result.optimizers[0]?.relative).toEqual({ median: 1, min: 1, max: 1, n: 2 });
  });

  it('train: refuses the peer beside several optimizers', async () => {
    const { code, stderr } = await flatmin([
      'bench',
      'train',
      '--model',
      'demo',
      '--optimizer',
      'all',
      '--peer',
      ...TINY,
    ]);
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining('beside one optimizer') });
  });

  it('names the devices that there are, and a variant of the peer that there is not', async () => {
    const device = await flatmin(['bench', 'train', '--model', 'demo', '--device', 'gpu', ...TINY]);
    expect(device).toMatchObject({ code: 2, stderr: expect.stringContaining("'cuda:N'") });
    const variant = await flatmin(['bench', 'train', '--model', 'demo', '--variants', 'graph', ...TINY]);
    expect(variant).toMatchObject({ code: 2, stderr: expect.stringContaining('channels_last_bf16_foreach_graph') });
  });

  it.each([
    ['train', 'variants', ['--model', 'demo', '--variants', 'nchw']],
    ['train', 'peer-timeout', ['--model', 'demo', '--peer-timeout', '90']],
    ['data', 'decoders', ['--data-dir', folder, '--decoders', 'pillow']],
  ])('%s: refuses %s of the peer without it', async (bench, option, args) => {
    const { code, stderr } = await flatmin(['bench', bench, ...args, ...TINY]);
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining(`--${option} belongs to`) });
  });

  it.skipIf(hasNvidiaDriver())('says that there is no driver for CUDA (skipped where there is one)', async () => {
    const { code, stderr } = await flatmin(['bench', 'train', '--model', 'demo', '--device', 'cuda', ...TINY]);
    expect(code).not.toBe(0);
    expect(stderr).toContain('no NVIDIA driver');
  });

  it('data: rates on one thread and on several', async () => {
    const images = join(folder, 'images');
    mkdirSync(join(images, 'class'), { recursive: true });
    const picture = greyPng(8, new Uint8Array(64).fill(100));
    for (let number = 0; number < 4; number += 1) writeFileSync(join(images, 'class', `${number}.png`), picture);
    const args = [
      'bench',
      'data',
      '--data-dir',
      images,
      '--size',
      '8',
      '--batch',
      '2',
      ...TINY,
      '--threads',
      '2',
      '--json',
    ];
    const { code, stdout } = await flatmin(args);
    expect(code).toBe(0);
    const { perThreads } = JSON.parse(stdout) as { perThreads: { threads: number; imagesPerSecond: { n: number } }[] };
    expect(perThreads.map(({ threads, imagesPerSecond }) => [threads, imagesPerSecond.n])).toEqual([
      [1, 2],
      [2, 2],
    ]);
    expect((await flatmin(['bench', 'data', ...TINY])).code).toBe(2);
  });

  it('loop: cost against the bare loop and the delay of the event loop', async () => {
    const { code, stdout } = await flatmin(['bench', 'loop', '--model', 'demo', '--batch', '8', ...TINY, '--json']);
    expect(code).toBe(0);
    const result = JSON.parse(stdout) as { cost: number; eventLoopDelayMs: { p50: number; p99: number } };
    expect(Number.isFinite(result.cost)).toBe(true);
    expect(result.eventLoopDelayMs.p99).toBeGreaterThanOrEqual(result.eventLoopDelayMs.p50);
  });

  it('names an unknown model', async () => {
    const { code, stderr } = await flatmin(['bench', 'train', '--model', 'resnet21', ...TINY]);
    expect(code).toBe(2);
    expect(stderr).toContain('resnet20');
  });
});
