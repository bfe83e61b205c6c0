// Whether steps captured in a CUDA graph are the steps of the same training made operation by operation:
//   node benchmarks/gpu/parity.mjs --device cuda --steps 20 --batch 128 --out parity.json
// Captured bfloat16 against float32 on the CPU, and on the GPU captured float32 against eager float32, both by deterministic
// algorithms. Losses of ASAM on ResNet-20 and one batch of digits, each training in a process of its own: one process has one device.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { flatmin, report, useDevice } from './common.mjs';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda' },
    steps: { type: 'string', default: '20' },
    batch: { type: 'string', default: '128' },
    out: { type: 'string', default: 'parity.json' },
    training: { type: 'string' },
  },
});
const steps = Number(values.steps);
const batch = Number(values.batch);

/** The losses of a training whose every epoch is one step. */
async function losses({ device, dtype, ...rest }) {
  const onDevice = await useDevice(device);
  const { models, SGD, ASAM, Trainer, datasets } = flatmin;
  const train = (await datasets.digits()).take(batch);
  const model = models.resnet20({ inputShape: [1, 8, 8], seed: 1, dtype });
  // A rate at which the loss falls to a fifth: near 0, relative differences would say nothing.
  const optimizer = new ASAM(new SGD(model, { lr: 0.001, momentum: 0.9, weightDecay: 5e-4 }), { rho: 0.5 });
  const settings = { epochs: steps, batchSize: batch, seed: 1, ...onDevice, ...rest };
  const { epochs } = await new Trainer({ model, optimizer, train, ...settings }).fit();
  return epochs.map((epoch) => epoch.train.loss);
}

function inAProcess(training) {
  const args = ['--steps', values.steps, '--batch', values.batch, '--training', JSON.stringify(training)];
  const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), ...args], { encoding: 'utf8' });
  if (child.status !== 0) throw new Error(`${JSON.stringify(training)}: ${child.stderr}`);
  return JSON.parse(child.stdout);
}

/** The largest relative difference of two lists of losses, and the lists. */
function compare(training, reference, bar) {
  const [found, expected] = [inAProcess(training), inAProcess(reference)];
  const difference = Math.max(...expected.map((loss, step) => Math.abs(found[step] - loss) / Math.abs(loss)));
  return { training, reference, difference, bar, met: difference <= bar, losses: { found, expected } };
}

if (values.training !== undefined) {
  process.stdout.write(JSON.stringify(await losses(JSON.parse(values.training))));
} else {
  const { device } = values;
  const comparisons = [compare({ device, dtype: 'bfloat16' }, { device: 'cpu', dtype: 'float32' }, 0.01)];
  if (device !== 'cpu') {
    const exact = { device, dtype: 'float32', deterministic: true };
    comparisons.push(compare({ ...exact, capture: true }, { ...exact, capture: false }, 1e-5));
  }
  report(values.out, { device, steps, batch, comparisons });
  if (!comparisons.every(({ met }) => met)) process.exitCode = 1;
}
