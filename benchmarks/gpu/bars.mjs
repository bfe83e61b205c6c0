// What the stages of run.sh found, beside what is aimed at: node benchmarks/gpu/bars.mjs FOLDER prints a table and writes bars.json.
// A figure of the CPU is shown and not judged.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { median } from '../../dist/bench/statistics.js';
import { VARIANTS } from '../../dist/bench/train.js';

const folder = process.argv[2];
const read = (name) => {
  const path = join(folder, name);
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : undefined;
};

const atLeast = (bar) => ({ bar: `>= ${bar}`, holds: (value) => value >= bar });
const atMost = (bar) => ({ bar: `<= ${bar}`, holds: (value) => value <= bar });

/** A model beside its peers, which were measured in groups. */
function peersOf(model) {
  const groups = readdirSync(folder).filter((name) => name.startsWith(`${model}-`) && name.endsWith('.json'));
  const results = groups.map(read);
  if (results.length === 0) return undefined;
  const imagesPerSecond = median(results.map((result) => result.imagesPerSecond));
  return { device: results[0].device, imagesPerSecond, peers: results.flatMap(({ peers }) => peers) };
}

/** The smallest lead over a peer: that over the best of them, as far as they ran. */
const overBest = ({ peers }) => Math.min(...peers.flatMap(({ speedup }) => speedup ?? []));
const overPublished = ({ peers }) => peers.find(({ name }) => name === 'nchw')?.speedup;

/** The peers of a GPU that did not run, and why where it is known: without one of them, none is known to be the best. */
function missingPeers({ peers }) {
  const missing = VARIANTS.cuda.filter((name) => !peers.some((peer) => peer.name === name && peer.speedup));
  return missing.map((name) => ({ name, error: peers.find((peer) => peer.name === name)?.error }));
}

/** Milliseconds that these take, one after the other, of what kernels-on-device timed. */
function timed({ results }, ...names) {
  const time = (name) => results.find((result) => result.name === name)?.medianMs ?? Number.NaN;
  return names.reduce((sum, name) => sum + time(name), 0);
}

function ratio({ optimizers }, name, base) {
  const time = (wanted) => optimizers.find((optimizer) => optimizer.name === wanted)?.stepMs.median;
  return time(name) / time(base);
}

const lastAccuracy = (path) => {
  const epochs = readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter(({ type }) => type === 'epoch');
  return {
    accuracy: epochs.at(-1)?.test?.accuracy,
    epochs: epochs.length,
    seconds: epochs.reduce((sum, { seconds }) => sum + seconds, 0),
  };
};

/** Test accuracy in per cent of the runs of an optimizer that are finished: the mean, and the list. */
function accuracyOf(optimizer) {
  const runs = join(folder, 'runs');
  if (!existsSync(runs)) return undefined;
  const finished = readdirSync(runs).filter(
    (name) => name.startsWith(`${optimizer}-`) && existsSync(join(runs, name, 'finished')),
  );
  if (finished.length === 0) return undefined;
  const found = finished.map((name) => ({ name, ...lastAccuracy(join(runs, name, 'events.jsonl')) }));
  return { value: (100 * found.reduce((sum, { accuracy }) => sum + accuracy, 0)) / found.length, runs: found };
}

const parity = (result, index) => result.comparisons[index]?.difference;

const rows = [
  ['ResNet-20, over the published code', peersOf('resnet20'), overPublished, atLeast(6)],
  ['ResNet-20, over the best peer', peersOf('resnet20'), overBest, atLeast(1.5)],
  ['WRN-28-10, over the best peer', peersOf('wrn28_10'), overBest, atLeast(1.1)],
  ['ResNet-50 at 224, images a second', peersOf('resnet50'), ({ imagesPerSecond }) => imagesPerSecond, atLeast(3000)],
  ['ResNet-50 at 224, over the best peer', peersOf('resnet50'), overBest, atLeast(1.3)],
  [
    'update of 25.6 M parameters, ms',
    read('update.json'),
    (result) => timed(result, 'ASAM, all as a graph'),
    atMost(0.3),
  ],
  ['  perturbation and descent alone', read('update.json'), (result) => timed(result, 'ASAM, perturb', 'ASAM, sgd')],
  ['  the same update in a profile', read('profile-resnet50.json'), ({ updateMs }) => updateMs],
  ['ASAM against SGD', read('passes.json'), (result) => ratio(result, 'asam', 'sgd'), atMost(2.02)],
  ['ASAM against SAM', read('passes.json'), (result) => ratio(result, 'asam', 'sam'), atMost(1.01)],
  ['bfloat16 against float32 on the CPU, loss', read('parity.json'), (result) => parity(result, 0), atMost(0.01)],
  ['Trainer against a loop by passes, float32, loss', read('parity.json'), (result) => parity(result, 1), atMost(1e-5)],
  ['growth of resident memory', read('memory.json'), ({ rss }) => rss.growth, atMost(0.01)],
  ['growth of GPU memory', read('memory.json'), ({ deviceMemory }) => deviceMemory?.growth, atMost(0.01)],
  ['CIFAR-10 to 94 %: accuracy', read('cifar94.json'), ({ accuracy }) => accuracy, atLeast(0.94)],
  ['CIFAR-10 to 94 %: seconds', read('cifar94.json'), ({ seconds }) => seconds],
  ['  the first epoch of these', read('cifar94.json'), ({ firstEpochSeconds }) => firstEpochSeconds],
].map(([what, result, of, aim]) => {
  const value = result === undefined ? undefined : of(result);
  const onGpu = result !== undefined && result.device !== 'cpu';
  const missing = onGpu && of === overBest ? missingPeers(result) : [];
  const judged = onGpu && aim !== undefined && Number.isFinite(value) && missing.length === 0;
  return { what, value, bar: aim?.bar, met: judged ? aim.holds(value) : null, missing };
});
for (const [optimizer, paper] of [
  ['sgd', 93.2],
  ['sam', 93.6],
  ['asam', 93.8],
]) {
  const found = accuracyOf(optimizer);
  rows.push({
    what: `ResNet-20, 200 epochs, ${optimizer}, % (paper: about ${paper})`,
    ...found,
    bar: undefined,
    met: null,
    missing: [],
  });
}

function verdict({ met, missing }) {
  if (missing.length > 0) return `no verdict without ${missing.map(({ name }) => name).join(', ')}`;
  return met === null ? '' : met ? 'met' : 'MISSED';
}

const shown = rows.map((row) => [
  row.what,
  Number.isFinite(row.value) ? String(Number(row.value.toPrecision(4))) : '-',
  row.bar ?? '',
  verdict(row),
]);
const widths = [0, 1, 2].map((column) => Math.max(...shown.map((row) => row[column].length)));
for (const row of shown)
  process.stdout.write(
    `${row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd()}\n`,
  );
writeFileSync(join(folder, 'bars.json'), `${JSON.stringify(rows, undefined, 2)}\n`);
