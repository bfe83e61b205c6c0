// A study: its statistics against values known by hand, and a tiny one from the command line to its page and back.
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { planStudy, studySchema } from '../src/cli/study/plan.js';
import type { NetRecord } from '../src/cli/study/record.js';
import { studyDocument } from '../src/cli/study/result.js';
import { cellsOf, granulated, granulatedDifference, kendallTau, tauDifference } from '../src/cli/study/statistics.js';
import { parseOptions } from '../src/options/index.js';
import { flatmin } from './support/cli.js';
import { temporaryFolder } from './support/folder.js';

const options = (given: object) => parseOptions(studySchema, given, 'study');

/** A net with given measures; what is not said is 0. */
function net(
  point: Partial<NetRecord['point']>,
  sharpness: number,
  gap: number,
  more: Partial<NetRecord> = {},
): NetRecord {
  return {
    point: { batchSize: 16, lr: 0.01, weightDecay: 0, dropout: 0, ...point },
    ...{ seed: 1, converged: true, epochs: 1, steps: 1, seconds: 1 },
    ...{ train: { loss: 0, accuracy: 1 }, test: { loss: gap, accuracy: 1 }, gap: { loss: gap, error: gap } },
    measures: { sharpness, adaptiveSharpness: -sharpness, weightNorm: 1 },
    ...more,
  };
}

const sharpness = ({ measures }: NetRecord) => measures.sharpness;
const negated = ({ measures }: NetRecord) => measures.adaptiveSharpness;
const gap = (record: NetRecord) => record.gap.loss;

describe('kendallTau', () => {
  it('counts pairs that agree minus pairs that do not, ties as nothing', () => {
    const nets = [net({}, 1, 1), net({}, 2, 3), net({}, 3, 2), net({}, 3, 4)];
    // Six pairs: (1,2) + (1,3) + (1,4) + (2,3) - (2,4) + (3,4) tie.
    expect(kendallTau(nets, sharpness, gap)).toBeCloseTo(3 / 6, 12);
    expect(kendallTau(nets, negated, gap)).toBeCloseTo(-3 / 6, 12);
    expect(kendallTau(nets.slice(0, 1), sharpness, gap)).toBeNaN();
  });

  it('makes no pair of a net with itself', () => {
    const [a, b] = [net({}, 1, 1), net({}, 2, 2)];
    expect(kendallTau([a, a, b], sharpness, gap)).toBe(1);
  });
});

describe('granulated', () => {
  it('looks along one axis at a time', () => {
    // Along lr the measure is right, along dropout wrong; over all pairs that differ in both it says nothing.
    const nets = [
      net({ lr: 1, dropout: 0 }, 1, 3),
      net({ lr: 2, dropout: 0 }, 2, 4),
      net({ lr: 1, dropout: 0.5 }, 3, 1),
      net({ lr: 2, dropout: 0.5 }, 4, 2),
    ];
    const cells = [...cellsOf(nets, 'lr'), ...cellsOf(nets, 'dropout'), ...cellsOf(nets, 'batchSize')];
    expect(cells).toHaveLength(4);
    expect(granulated(cells, sharpness, gap)).toEqual({ psi: { lr: 1, dropout: -1 }, Psi: 0 });
    expect(granulatedDifference(nets, [negated, sharpness, gap], 50).value).toBeCloseTo(0, 12);
  });
});

describe('tauDifference', () => {
  it('is certain where every pair agrees', () => {
    const nets = [1, 2, 3, 4, 5, 6].map((value) => net({ lr: value }, value, value));
    expect(tauDifference(nets, [negated, sharpness, gap], 200)).toEqual({ value: -2, interval: [-2, -2] });
  });

  it('draws whole points of the grid: more seeds of one point add no certainty', () => {
    const values = [3, 1, 4, 1.5, 9, 2.6, 5, 3.5];
    const one = values.map((value, index) => net({ lr: index + 1 }, index, value));
    const again = one.flatMap((record) => [1, 2, 3].map((seed) => ({ ...record, seed })));
    const width = (nets: NetRecord[]) => {
      const [low, high] = tauDifference(nets, [negated, sharpness, gap], 500).interval;
      return high - low;
    };
    expect(width(again)).toBeGreaterThan(0.7 * width(one));
  });
});

describe('a plan', () => {
  it('is the grid times the seeds, seed by seed', () => {
    const plan = planStudy(options({ batchSize: [16, 32], lr: [0.1, 0.2], weightDecay: [0], dropout: [0], seeds: 2 }));
    expect(plan).toHaveLength(8);
    expect(plan.map(({ seed }) => seed)).toEqual([1, 1, 1, 1, 2, 2, 2, 2]);
    expect(new Set(plan.map(({ folder }) => folder)).size).toBe(8);
  });

  it('refuses a grid without variation', () => {
    expect(() => planStudy(options({ batchSize: [16], lr: [0.1], weightDecay: [0], dropout: [0] }))).toThrow(
      /1 points/,
    );
    expect(() => planStudy(options({ lr: [0.1, 0.1] }))).toThrow(/different values/);
  });
});

it('ranks converged nets only, and lists the others', () => {
  const nets = [
    ...[1, 2, 3].map((value) => net({ lr: value }, value, value)),
    net({ lr: 4 }, 0, 9, { converged: false, failure: 'diverged' }),
  ];
  const lr = [1, 2, 3, 4];
  const document = studyDocument(
    4,
    nets,
    options({ lr, batchSize: [16], weightDecay: [0], dropout: [0], resamples: 10 }),
  );
  expect(document).toMatchObject({ planned: 4, made: 4, converged: 3, cells: { lr: { used: 1, incomplete: 1 } } });
  expect(document.correlations.loss.sharpness.tau).toBe(1);
  expect(document.correlations.loss.adaptiveSharpness.difference?.tau.value).toBe(-2);
  expect(document.notConverged).toMatchObject([{ point: { lr: 4 }, failure: 'diverged' }]);
});

describe('flatmin study', () => {
  const folder = temporaryFolder('study');
  let file: string;
  const out = () => join(folder, 'study');

  beforeAll(() => {
    file = join(folder, 'study.yaml');
    writeFileSync(
      file,
      `channels: 4
trainImages: 60
testImages: 100
batchSize: [10, 20]
lr: [0.02, 0.04]
weightDecay: [0]
dropout: [0]
targetLoss: 0.5
epochs: 60
steps: 2
resamples: 50
jobs: 2
`,
    );
  });

  it('trains the grid in processes, keeps each record, and makes a document and a page', async () => {
    const { code, stdout, stderr } = await flatmin(['study', file, '--out', out(), '--json']);
    expect([code, stderr]).toEqual([0, '']);
    const document = JSON.parse(stdout);
    expect(document).toMatchObject({ planned: 4, made: 4, converged: 4, notConverged: [] });
    for (const { train, gap, test, measures } of document.nets) {
      expect(train.loss).toBeLessThanOrEqual(0.5);
      expect(gap.loss).toBeCloseTo(test.loss - train.loss, 12);
      expect(measures.sharpness).toBeGreaterThan(0);
    }
    expect(readdirSync(join(out(), 'nets'))).toHaveLength(4);
    const page = readFileSync(join(out(), 'study.html'), 'utf8');
    expect(page).toContain('adaptive sharpness and the gap of the loss');
    expect(page).not.toMatch(/(src|href)="http/);
    expect(JSON.parse(readFileSync(join(out(), 'study.json'), 'utf8'))).toEqual(document);
  }, 120_000);

  it('makes what is missing, and nothing twice', async () => {
    const kept = join(out(), 'nets', 'batchSize=10-lr=0.02-weightDecay=0-dropout=0', 'seed-1', 'net.json');
    const lost = join(out(), 'nets', 'batchSize=20-lr=0.04-weightDecay=0-dropout=0', 'seed-1', 'net.json');
    const before = statSync(kept).mtimeMs;
    const record = JSON.parse(readFileSync(lost, 'utf8'));
    rmSync(lost);
    const { code, stdout } = await flatmin(['study', file, '--out', out()]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/4 nets \(plain\) on digits, 3 made before/);
    expect(statSync(kept).mtimeMs).toBe(before);
    const again = JSON.parse(readFileSync(lost, 'utf8'));
    expect({ ...again, seconds: 0 }).toEqual({ ...record, seconds: 0 });
  }, 120_000);

  it('refuses to mix nets of other settings', async () => {
    const { code, stderr } = await flatmin(['study', file, '--out', out(), '--target-loss', '0.4']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/another 'targetLoss': it was 0.5 and is 0.4/);
  });

  it('ends with code 2 for options that do not fit', async () => {
    const { code, stderr } = await flatmin(['study', file, '--data', 'cifar10', '--out', join(folder, 'other')]);
    expect([code, existsSync(join(folder, 'other'))]).toEqual([2, false]);
    expect(stderr).toMatch(/--data-dir/);
  });
});
