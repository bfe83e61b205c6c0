// Comparing optimizers through the command line on the digits: figures, going on after a kill, sweeps, and wrong input.
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type ComparisonOptions, planComparison } from '../src/cli/compare/plan.js';
import { dataFields, trainingFields } from '../src/cli/fields.js';
import { optimizerEntry, optimizerNames } from '../src/cli/optimizers.js';
import type { EndEvent, EpochEvent, StartEvent } from '../src/index.js';
import { median, spread, spreadText } from '../src/report/statistics.js';
import { flatmin, jsonLines } from './support/cli.js';
import { temporaryFolder } from './support/folder.js';

const SMALL = ['--data', 'digits', '--threads', '1', '--train-images', '300', '--test-images', '200'];

const folder = temporaryFolder('compare');

interface Numbers {
  n: number;
  mean: number;
  sd: number | null;
  values: number[];
}

interface Document {
  complete: boolean;
  reference: string | null;
  groups: {
    name: string;
    options: Record<string, unknown>;
    swept: Record<string, unknown>;
    seeds: number[];
    n: number;
    epochs: number;
    testAccuracy: Numbers;
    testLoss: Numbers;
    generalizationGap: Numbers;
    secondsPerEpoch: Numbers;
    imagesPerSecond: Numbers;
    relativeTime: number | null;
  }[];
  sweeps: {
    option: string;
    lines: { name: string; points: { value: unknown; testAccuracy: Numbers }[]; testAccuracy?: Numbers }[];
  }[];
  runs: { group: string; seed: number; runDir: string; test: { accuracy: number; loss: number } }[];
  failures: { group: string; seed: number; message: string }[];
}

const documentOf = (out: string) => JSON.parse(readFileSync(join(out, 'compare.json'), 'utf8')) as Document;
const eventsFile = (runDir: string) => join(runDir, 'events.jsonl');
const eventsOf = (runDir: string) =>
  jsonLines(readFileSync(eventsFile(runDir), 'utf8')) as unknown as (StartEvent | EpochEvent | EndEvent)[];
const epochsOf = (runDir: string) => eventsOf(runDir).filter((event) => event.type === 'epoch');
const results = ({ runs }: Document) => runs.map(({ group, seed, test }) => ({ group, seed, test }));

describe('a comparison', () => {
  const args = ['compare', ...SMALL, '--optimizers', 'sgd,asam:rho=1', '--seeds', '2', '--epochs', '3'];
  let out: string;
  let stdout: string;

  beforeAll(async () => {
    out = join(folder, 'whole');
    const result = await flatmin([
      ...args,
      '--label-noise',
      '0.4',
      '--sgd-epochs-factor',
      '2',
      '--tensorboard',
      '--out',
      out,
    ]);
    expect(result.stderr).toBe('');
    expect(result.code).toBe(0);
    stdout = result.stdout;
  });

  it('tells the figures of the runs themselves', () => {
    const document = documentOf(out);
    expect(document).toMatchObject({ complete: true, reference: 'SGD', failures: [] });
    expect(document.groups.map(({ name, n, epochs }) => [name, n, epochs])).toEqual([
      ['SGD', 2, 6],
      ['ASAM rho=1', 2, 3],
    ]);
    for (const group of document.groups) {
      const runs = [1, 2].map((seed) =>
        epochsOf(join(out, group.name === 'SGD' ? 'sgd' : 'asam-rho=1', `seed-${seed}`)),
      );
      const last = runs.map((epochs) => epochs.at(-1) as EpochEvent);
      const expected = (values: (number | null | undefined)[]) => {
        const { n, mean, sd } = spread(values.map(Number));
        return { n, mean, sd, values };
      };
      expect(group).toMatchObject({
        seeds: [1, 2],
        testAccuracy: expected(last.map(({ test }) => test?.accuracy)),
        testLoss: expected(last.map(({ test }) => test?.loss)),
        generalizationGap: expected(last.map(({ generalizationGap }) => generalizationGap)),
        secondsPerEpoch: expected(runs.map((epochs) => median(epochs.map(({ seconds }) => seconds)))),
        imagesPerSecond: expected(runs.map((epochs) => median(epochs.map((epoch) => epoch.imagesPerSecond)))),
      });
    }
    const [sgd, asam] = document.groups;
    const seconds = (group = sgd) => (group?.epochs ?? 0) * (group?.secondsPerEpoch.mean ?? 0);
    expect(sgd?.relativeTime).toBe(1);
    expect(asam?.relativeTime).toBeCloseTo(seconds(asam) / seconds(sgd), 10);
  });

  it('prints them as a table and draws them on a page', () => {
    const page = readFileSync(join(out, 'report.html'), 'utf8');
    for (const { name, testAccuracy, testLoss, secondsPerEpoch } of documentOf(out).groups) {
      const row = stdout.split('\n').find((line) => line.startsWith(`${name} `) && line.includes('±'));
      const cells = [
        ...[spreadText(spread(testAccuracy.values), 2, 100), spreadText(spread(testLoss.values), 3)],
        spreadText(spread(secondsPerEpoch.values), 2),
      ];
      for (const cell of cells) {
        expect(row).toContain(cell);
        expect(page).toContain(cell);
      }
    }
    expect(stdout).toMatch(/\[4\/4\]/);
    expect(page).toContain('40 % of the training labels wrong');
  });

  it('writes the TensorBoard files that it is asked for', () => {
    for (const { runDir } of documentOf(out).runs) {
      const splits = readdirSync(join(runDir, 'tensorboard')).toSorted();
      expect(splits).toEqual(['test', 'train']);
    }
  });

  it('is not run again, and takes further seeds in', async () => {
    const files = documentOf(out).runs.map(({ runDir }) => eventsFile(runDir));
    const before = files.map((file) => readFileSync(file, 'utf8'));
    const more = [...args, '--label-noise', '0.4', '--sgd-epochs-factor', '2', '--out', out, '--seeds', '3', '--json'];
    const result = await flatmin(more);
    expect(result.code).toBe(0);
    expect(files.map((file) => readFileSync(file, 'utf8'))).toEqual(before);
    const document = JSON.parse(result.stdout) as Document;
    expect(document).toEqual(documentOf(out));
    expect(document.groups.map(({ seeds }) => seeds)).toEqual([
      [1, 2, 3],
      [1, 2, 3],
    ]);
  });

  it('leaves runs that train and eval understand', async () => {
    const [run] = documentOf(out).runs;
    const weights = join(folder, 'copy');
    cpSync(run?.runDir ?? '', weights, { recursive: true });
    const evaluated = await flatmin(['eval', '--weights', weights, '--limit', '200', '--json']);
    expect(JSON.parse(evaluated.stdout)).toMatchObject({ count: 200, accuracy: run?.test.accuracy });
    const resumed = await flatmin(['train', '--resume', weights, '--epochs', '7', '--json']);
    expect(jsonLines(resumed.stdout).at(-1)).toMatchObject({ type: 'end', reason: 'finished', result: { epochs: 7 } });
  });

  it('refuses a folder whose runs had other options', async () => {
    const { code, stderr } = await flatmin([...args, '--label-noise', '0.2', '--sgd-epochs-factor', '2', '--out', out]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/another 'labelNoise': it was 0\.4 and is 0\.2/);
  });
});

describe('after an interruption', () => {
  const args = ['compare', '--threads', '1', '--optimizers', 'sam,sgd', '--seeds', '1', '--epochs', '5'];
  let whole: Document;

  beforeAll(async () => {
    const out = join(folder, 'uninterrupted');
    expect((await flatmin([...args, '--out', out])).code).toBe(0);
    whole = documentOf(out);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGKILL', null],
  ] as const)('%s: the same command finishes the rest, to the same result', async (signal, expected) => {
    const out = join(folder, signal);
    let sent = false;
    const stopped = await flatmin([...args, '--out', out], {
      onOutput(text, kill) {
        if (sent || !text.includes('[1/2]')) return;
        sent = true;
        kill(signal);
      },
    });
    expect(stopped.code).toBe(expected);
    const finished = eventsFile(join(out, 'sam', 'seed-1'));
    const before = readFileSync(finished, 'utf8');
    const { code, stdout } = await flatmin([...args, '--out', out]);
    expect(code).toBe(0);
    expect(stdout).toContain('2 runs, 1 finished before');
    expect(readFileSync(finished, 'utf8')).toBe(before);
    expect(results(documentOf(out))).toEqual(results(whole));
    expect(epochsOf(join(out, 'sgd', 'seed-1')).map(({ epoch }) => epoch)).toEqual([1, 2, 3, 4, 5]);
  });

  it('Ctrl-C in the middle of a run keeps its steps', async () => {
    const long = ['compare', '--threads', '1', '--optimizers', 'sgd', '--seeds', '1', '--epochs', '12'];
    const out = join(folder, 'middle');
    const events = eventsFile(join(out, 'sgd', 'seed-1'));
    let watch: NodeJS.Timeout | undefined;
    const stopped = await flatmin([...long, '--out', out], {
      onOutput(_, kill) {
        watch ??= setInterval(() => {
          if (!existsSync(events) || !readFileSync(events, 'utf8').includes('"type":"epoch"')) return;
          clearInterval(watch);
          kill('SIGINT');
        }, 5);
      },
    });
    expect(stopped.code).toBe(130);
    expect(stopped.stderr).toContain('0 of 1 runs are finished');
    expect((await flatmin([...long, '--out', out])).code).toBe(0);
    const starts = eventsOf(join(out, 'sgd', 'seed-1')).filter((event) => event.type === 'start');
    expect(starts.at(-1)?.resumedFrom).toContain('checkpoints');
  });
});

it('a sweep trains the grid of its values and keeps other optimizers as levels', async () => {
  const out = join(folder, 'sweep');
  const config = join(folder, 'sweep.yaml');
  writeFileSync(
    config,
    `optimizers: [sgd, { optimizer: asam, rho: 9 }]\nsweep: { rho: [0.5, 1], scale: [element, filter] }\nseeds: 1\nepochs: 1\n`,
  );
  const { code, stdout } = await flatmin([
    'compare',
    ...SMALL,
    '--config',
    config,
    '--out',
    out,
    '--jobs',
    '2',
    '--json',
  ]);
  expect(code).toBe(0);
  const { groups, sweeps } = JSON.parse(stdout) as Document;
  expect(groups.map(({ swept }) => swept)).toEqual([
    {},
    ...[0.5, 1].flatMap((rho) => ['element', 'filter'].map((scale) => ({ rho, scale }))),
  ]);
  const accuracy = (name: string) => groups.find((group) => group.name === name)?.testAccuracy;
  expect(sweeps.map(({ option }) => option)).toEqual(['rho', 'scale']);
  expect(sweeps[0]?.lines).toEqual([
    { name: 'SGD', points: [], testAccuracy: accuracy('SGD') },
    ...['element', 'filter'].map((scale) => ({
      name: `ASAM scale=${scale}`,
      points: [0.5, 1].map((rho) => ({ value: rho, testAccuracy: accuracy(`ASAM rho=${rho} scale=${scale}`) })),
    })),
  ]);
  const page = readFileSync(join(out, 'report.html'), 'utf8');
  expect(page).toContain('Test accuracy over rho');
  expect(page).toContain('Test accuracy over scale');
});

it('every optimizer can be compared', async () => {
  const out = join(folder, 'all');
  const args = ['compare', ...SMALL, '--optimizers', optimizerNames.join(','), '--seeds', '1', '--epochs', '1'];
  // Ten steps, so that the random ones among the optimizers draw this and that.
  args.push('--batch-size', '32');
  const { code, stderr, stdout } = await flatmin([...args, '--jobs', '2', '--out', out, '--json']);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const { groups } = JSON.parse(stdout) as Document;
  expect(groups.map(({ name }) => name)).toEqual(optimizerNames.map((name) => optimizerEntry(name).title));
  // Runs of one seed start from the same weights, so each algorithm has a result of its own.
  const losses = new Set(groups.map(({ testLoss }) => testLoss.mean));
  expect(losses.size).toBe(groups.length);
});

it('a run that diverges does not stop the others', async () => {
  const out = join(folder, 'diverging');
  const { code, stdout, stderr } = await flatmin([
    ...[
      'compare',
      ...SMALL,
      '--optimizers',
      'sgd,sgd:lr=1e30',
      '--seeds',
      '1',
      '--epochs',
      '2',
      '--out',
      out,
      '--json',
    ],
  ]);
  expect(code).toBe(1);
  expect(stderr).toContain('ERR_FLATMIN_NON_FINITE');
  const document = JSON.parse(stdout) as Document;
  expect(document.complete).toBe(false);
  expect(document.groups.map(({ name }) => name)).toEqual(['SGD']);
  expect(document.failures).toMatchObject([{ group: 'SGD lr=1e+30', seed: 1 }]);
});

it('no option of an optimizer has the name of an option of the run', () => {
  const ofOptimizers = optimizerNames.flatMap((name) => Object.keys(optimizerEntry(name).schema.shape));
  const ofRuns = Object.keys({ ...dataFields, ...trainingFields });
  // The seed is meant to be the same.
  expect(ofRuns.filter((key) => ofOptimizers.includes(key))).toEqual(['seed']);
});

describe('the plan', () => {
  const plan = (options: Partial<ComparisonOptions>) =>
    planComparison({
      ...{ optimizers: ['sgd', 'sam', 'asam'], sweep: [], seeds: [1], sgdEpochsFactor: 1, out: 'out' },
      shared: { data: 'digits', epochs: 10, base: 'sgd' },
      ...options,
    });
  const names = (options: Partial<ComparisonOptions>) => plan(options).settings.map(({ name }) => name);

  it('parts optimizers and their options at commas', () => {
    expect(names({ optimizers: ['sgd', 'asam:rho=1', 'eta=0.1', 'sam', 'asam:scale=filter', 'base=adam'] })).toEqual([
      ...['SGD', 'ASAM rho=1 eta=0.1', 'SAM', 'ASAM scale=filter base=adam'],
    ]);
  });

  it('gives each optimizer the shared options that it has', () => {
    const { runs } = plan({
      optimizers: ['sgd', 'adam', 'sam:lr=0.3'],
      shared: { data: 'digits', epochs: 10, base: 'sgd', lr: 0.01, momentum: 0.5 },
    });
    expect(runs.map(({ options }) => options)).toMatchObject([
      { optimizer: 'sgd', lr: 0.01, momentum: 0.5 },
      { optimizer: 'adam', lr: 0.01 },
      { optimizer: 'sam', lr: 0.3, momentum: 0.5 },
    ]);
    expect(runs[1]?.options).not.toHaveProperty('momentum');
  });

  it('takes options that are objects', () => {
    const groups = [{ kinds: ['bias'], lr: 0.01 }];
    const { settings, runs } = plan({ optimizers: [{ optimizer: 'sam', groups, clip: 5 }] });
    expect(settings[0]?.name).toBe('SAM groups=[{"kinds":["bias"],"lr":0.01}] clip=5');
    expect(settings[0]?.folder).toMatch(/^[\w.=+-]+$/);
    expect(runs[0]?.options).toMatchObject({ groups, clip: { norm: 5 } });
  });

  it('gives optimizers with one pass a step more epochs, unless they have their own', () => {
    const { runs } = plan({ optimizers: ['sgd', 'sgd:epochs=7', 'sam'], sgdEpochsFactor: 2 });
    expect(runs.map(({ options }) => options.epochs)).toEqual([20, 7, 10]);
  });

  it('sweeps an option of one optimizer alone', () => {
    expect(names({ sweep: ['sam:rho=0.1', '0.2', 'asam:rho=1', '2'] })).toEqual([
      ...['SGD', 'SAM rho=0.1', 'SAM rho=0.2', 'ASAM rho=1', 'ASAM rho=2'],
    ]);
  });

  it.each([
    [{ optimizers: ['sgd', 'asma'] }, /'asma'.*did you mean 'asam'/],
    [{ optimizers: ['sam:rh=1'] }, /sam has no option 'rh'.*did you mean 'rho'/],
    [{ optimizers: ['sgd:rho=1'] }, /sgd has no option 'rho'/],
    [{ optimizers: ['sam:eta=1'] }, /sam has no option 'eta'/],
    [{ optimizers: ['sam:rho=-1'] }, /SAM option 'rho'.*-1/],
    [{ optimizers: ['asam:scale=elemnt'] }, /'scale'.*did you mean 'element'/],
    [{ optimizers: ['sam:rho'] }, /'rho'.*an option and its value/],
    [{ optimizers: ['rho=1'] }, /names no optimizer/],
    [{ optimizers: ['sam', 'sam'] }, /'SAM' is there twice/],
    [{ optimizers: [{ optimizer: 'sam', clip: { norm: -1 } }] }, /'clip.norm'.*-1/],
    [{ optimizers: [{ rho: 1 }] }, /without 'optimizer'/],
    [{ sweep: ['rhoo=1', '2'] }, /no option 'rhoo'.*did you mean 'rho'/],
    [{ optimizers: ['sgd'], sweep: ['rho=1', '2'] }, /sgd has no option 'rho'/],
    [{ sweep: ['sgd:rho=1'] }, /sgd has no option 'rho'/],
    [{ sweep: ['asm:rho=1'] }, /'asm'.*did you mean 'asam'/],
    [{ sweep: ['adam:lr=1'] }, /'adam' is not among/],
    [{ sweep: ['rho=1', '1'] }, /different values/],
    [{ sweep: ['0.1'] }, /'0\.1'.*an option and its value/],
    [{ sweep: { rho: [] } }, /no value/],
    [{ shared: { epochs: 1, base: 'sgd', betas: [0.9, 0.99] } }, /'betas' applies to none/],
  ] as [Partial<ComparisonOptions>, RegExp][])('refuses %j', (options, message) => {
    expect(() => plan(options)).toThrow(message);
  });
});

it.each([
  [['--optimizers', 'sgd,asma'], /did you mean 'asam'/],
  [['--seeds', '0'], /seeds.*at least 1/],
  [['--optimizers', 'sgd', '--sweep', 'rho=0.1,0.2'], /sgd has no option 'rho'/],
  [['--sweep', 'etta=0.1'], /did you mean 'eta'/],
  [['--model', 'resnet21'], /did you mean 'resnet20'/],
  [['--data', 'cifar10'], /--data-dir/],
])('%j ends with code 2 and an empty stdout', async (args, message) => {
  const out = join(folder, 'refused');
  const { code, stdout, stderr } = await flatmin(['compare', ...args, '--out', out, '--json']);
  expect(stderr).toMatch(message);
  expect(stdout).toBe('');
  expect(code).toBe(2);
  expect(existsSync(out)).toBe(false);
});
