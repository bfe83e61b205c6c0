// Reports on run folders: which runs make a group, what is said of them, and how large the page gets.
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseHTML } from 'linkedom';
import { beforeEach, describe, expect, it } from 'vitest';
import { renderReport } from '../src/report/index.js';
import { optimizerTitle } from '../src/report/optimizer-title.js';
import { findRunFolders, readStoredRun, reportOn } from '../src/report/runs.js';
import { thisProcess } from '../src/run-process.js';
import { temporaryFolder } from './support/folder.js';
import { errorOf } from './support.js';

const folder = temporaryFolder('reports');
let runs: string;
beforeEach(() => {
  runs = mkdtempSync(join(folder, 'runs-'));
});

interface Made {
  seed?: number;
  epochs?: number;
  sharpness?: object | null;
  cpu?: string;
  ended?: boolean;
  failed?: object;
  process?: object | undefined;
}

/** Writes a run folder as the Trainer does. */
function makeRun(
  name: string,
  { seed = 1, epochs = 3, sharpness = null, cpu = 'a cpu', failed, ended = failed === undefined, process }: Made = {},
): string {
  const path = join(runs, name);
  mkdirSync(path, { recursive: true });
  const config = {
    ...{ version: '0.1.0', train: { epochs, batchSize: 128, seed, runDir: path, threads: seed }, dtype: 'float32' },
    ...{ optimizer: { base: { type: 'sgd', lr: 0.1 }, sharpness }, model: { name: 'demo', layers: [] } },
    data: { train: { name: 'digits', count: 1000 }, validation: null, test: { name: 'digits', count: 500 } },
    environment: { cpu, threads: 2, date: '2026-01-02T03:04:05.678Z', process },
  };
  writeFileSync(join(path, 'config.json'), JSON.stringify(config));
  const lines = [
    {
      type: 'start',
      runDir: path,
      steps: 8 * epochs,
      epochs,
      stepsPerEpoch: 8,
      stepsDone: 0,
      device: 'cpu',
      parameters: 99,
      seed,
      resumedFrom: null,
    },
    ...Array.from({ length: epochs }, (_, index) => epochLine(index + 1, seed, sharpness !== null)),
    ...(ended ? [{ type: 'end', reason: 'finished', result: {} }] : []),
    ...(failed ? [{ type: 'end', reason: 'failed', error: failed }] : []),
  ];
  writeFileSync(join(path, 'events.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  return path;
}

function epochLine(epoch: number, seed: number, sharp: boolean) {
  const loss = Math.exp(-epoch / 50) + 0.01 * Math.sin(epoch * seed);
  const evaluation = { count: 500, loss: loss + 0.1, accuracy: 1 - loss / 3, top5: 1 };
  return {
    ...{ type: 'epoch', epoch, train: { loss, accuracy: 1 - loss / 4 }, test: evaluation, generalizationGap: 0.1 },
    ...{ sharpness: sharp ? loss / 10 : null, lr: 0.1 * loss, rho: sharp ? 0.1 : null, momentum: 0.9 },
    ...{ imagesPerSecond: 400 + seed, seconds: 2, dataSeconds: 0.5, memoryBytes: 3e8, skippedSteps: 0 },
  };
}

const SAM = { rho: 0.1, scale: 'none', variant: { type: 'sam' } };
const reportOf = (paths: readonly string[]) => reportOn(paths.map(readStoredRun));

describe('groups', () => {
  it('are runs that differ in nothing but seed, folder and threads', () => {
    const { runs: found } = reportOf([makeRun('a', { seed: 1 }), makeRun('b', { seed: 2 })]);
    expect(found.map(({ group, seed }) => [group, seed])).toEqual([
      ['SGD', 1],
      ['SGD', 2],
    ]);
  });

  it('are named by the options in which runs of one optimizer differ', () => {
    const { runs: found, meta } = reportOf([
      makeRun('sgd'),
      makeRun('sam', { sharpness: SAM }),
      makeRun('sam-2', { sharpness: { ...SAM, rho: 0.2 } }),
    ]);
    expect(found.map(({ group }) => group)).toEqual(['SGD', 'SAM rho=0.1', 'SAM rho=0.2']);
    expect(meta).toMatchObject({ title: 'SGD, SAM: demo on digits', reference: 'SGD' });
    // Shared by all runs; rho is not.
    expect(meta.options).toMatchObject({ 'train.batchSize': '128', 'optimizer.base.lr': '0.1' });
    expect(Object.keys(meta.options)).not.toContain('optimizer.sharpness.rho');
  });

  it('have the names of their classes', () => {
    const title = (type: string, sharpness: object | null) => optimizerTitle({ base: { type }, sharpness });
    expect(title('adamw', null)).toBe('AdamW');
    expect(title('adam', SAM)).toBe('SAM (Adam)');
    expect(title('sgd', { ...SAM, scale: 'filter' })).toBe('ASAM');
    expect(title('sgd', { ...SAM, perturb: 'norms' })).toBe('SAMON');
    expect(title('sgd', { ...SAM, probability: 0.5 })).toBe('RST');
    expect(title('sgd', { ...SAM, variant: { type: 'looksam' } })).toBe('LookSAM');
  });
});

it('says where runs came from, which have not ended, and where environments differ', () => {
  const { meta, runs: found } = reportOf([
    makeRun('a', { cpu: 'one' }),
    makeRun('b', { seed: 2, cpu: 'two', ended: false, process: thisProcess() }),
    makeRun('c', { seed: 3, cpu: 'two', ended: false, process: { ...thisProcess(), started: '1' } }),
    makeRun('d', { seed: 4, cpu: 'two', process: { ...thisProcess(), started: '1' } }),
  ]);
  expect(meta.environment).toEqual({ cpu: 'one | two', threads: '2' });
  expect(meta.notes).toEqual(['SGD, seed 2: not ended.', 'SGD, seed 3: cut off.']);
  const { document } = parseHTML(renderReport(found, meta));
  const text = document.body.textContent;
  for (const part of [join(runs, 'a'), '2026-01-02 03:04:05', 'not ended', 'cut off', 'waiting for data, %', '0.30'])
    expect(text).toContain(part);
});

it('says what a run failed of', () => {
  const failed = { code: 'ERR_FLATMIN_NON_FINITE', message: 'training diverged' };
  const { meta, runs: found } = reportOf([makeRun('a'), makeRun('b', { seed: 2, failed })]);
  expect(meta.notes).toEqual(['SGD, seed 2: failed (ERR_FLATMIN_NON_FINITE: training diverged).']);
  expect(found.map(({ origin }) => origin?.state)).toEqual(['finished', 'failed']);
});

it('finds runs below a folder', () => {
  const paths = [makeRun('sgd/seed-1'), makeRun('sgd/seed-2', { seed: 2 })];
  expect(findRunFolders(runs)).toEqual(paths);
  expect(findRunFolders(paths[0] ?? '')).toEqual([paths[0]]);
  expect(findRunFolders(join(runs, 'missing'))).toEqual([]);
});

it('stays below 2 MB for runs of 200 epochs', () => {
  const paths = [1, 2, 3].flatMap((seed) => [
    makeRun(`sgd-${seed}`, { seed, epochs: 200 }),
    makeRun(`sam-${seed}`, { seed, epochs: 200, sharpness: SAM }),
  ]);
  const { runs: found, meta } = reportOf(paths);
  const page = renderReport(found, meta);
  expect(parseHTML(page).document.querySelectorAll('figure svg')).toHaveLength(8);
  expect(Buffer.byteLength(page)).toBeLessThan(2e6);
});

describe('broken folders', () => {
  it('are named with what is wrong', async () => {
    const path = makeRun('broken');
    writeFileSync(join(path, 'events.jsonl'), '{"type":"start"}\nnot json\n{"type":"epo');
    expect(await errorOf(() => readStoredRun(path))).toMatchObject({
      code: 'ERR_FLATMIN_FORMAT',
      message: expect.stringContaining('events.jsonl, line 2'),
    });
    writeFileSync(join(path, 'config.json'), '{"train":{}}');
    expect(await errorOf(() => readStoredRun(path))).toMatchObject({
      code: 'ERR_FLATMIN_FORMAT',
      message: expect.stringContaining('config.json'),
    });
    expect(await errorOf(() => readStoredRun(join(runs, 'missing')))).toMatchObject({ code: 'ERR_FLATMIN_PATH' });
  });

  it('may have a last line that is still being written', () => {
    const path = makeRun('going', { ended: false });
    const { events } = readStoredRun(path);
    writeFileSync(
      join(path, 'events.jsonl'),
      `${events.map((event) => JSON.stringify(event)).join('\n')}\n{"type":"epo`,
    );
    expect(readStoredRun(path).events).toEqual(events);
  });
});
