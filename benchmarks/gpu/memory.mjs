// Whether training keeps to its memory: ResNet-20 with ASAM for some minutes, memory sampled every second.
//   node benchmarks/gpu/memory.mjs --device cuda --seconds 300 --out memory.json
import { execFile } from 'node:child_process';
import { parseArgs, promisify } from 'node:util';
import { median } from '../../dist/bench/statistics.js';
import { flatmin, noise, report, useDevice } from './common.mjs';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda' },
    seconds: { type: 'string', default: '300' },
    out: { type: 'string', default: 'memory.json' },
  },
});
const { device } = values;
const seconds = Number(values.seconds);

/** Bytes in use on the whole GPU, which nothing else uses meanwhile; null without one. */
async function deviceBytes() {
  if (device === 'cpu') return null;
  const query = ['--query-gpu=memory.used', '--format=csv,noheader,nounits', `--id=${device.split(':')[1] ?? 0}`];
  const { stdout } = await promisify(execFile)('nvidia-smi', query);
  return Number(stdout.trim()) * 2 ** 20;
}

/** By how much the last fifth lies above the second: in the first one, caches fill. */
function growth(samples) {
  const fifth = Math.max(1, Math.floor(samples.length / 5));
  const [early, late] = [median(samples.slice(fifth, 2 * fifth)), median(samples.slice(-fifth))];
  return { early, late, growth: (late - early) / early };
}

const onDevice = await useDevice(device);
const { models, SGD, ASAM, Trainer } = flatmin;
const model = models.resnet20({ seed: 1, dtype: 'bfloat16' });
const optimizer = new ASAM(new SGD(model, { lr: 0.01, momentum: 0.9 }), { rho: 0.5 });
const train = noise(seconds < 60 ? 512 : 50_000);
const settings = { epochs: 1_000_000, batchSize: 128, augment: 'standard', ...onDevice };
const run = new Trainer({ model, optimizer, train, test: train.take(256), ...settings }).fit();

const samples = [];
const start = performance.now();
const timer = setInterval(async () => {
  const at = (performance.now() - start) / 1000;
  if (at > seconds) run.stop();
  else samples.push({ at, rssBytes: process.memoryUsage.rss(), deviceBytes: await deviceBytes() });
}, 1000);
const { result } = await run;
clearInterval(timer);

const rss = growth(samples.map(({ rssBytes }) => rssBytes));
const onGpu = device === 'cpu' ? null : growth(samples.map(({ deviceBytes }) => deviceBytes));
const flat = [rss, onGpu].every((memory) => memory === null || memory.growth <= 0.01);
report(values.out, { device, seconds, steps: result.steps, flat, rss, deviceMemory: onGpu, samples });
// In a few seconds caches still fill: nothing is told by them.
if (!flat && seconds >= 60) process.exitCode = 1;
