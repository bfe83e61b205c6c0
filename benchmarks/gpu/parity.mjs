// Whether the steps of a Trainer, which a GPU replays from CUDA graphs, are those of the same training made otherwise:
//   node benchmarks/gpu/parity.mjs --device cuda --steps 20 --batch 128 --out parity.json
// bfloat16 against float32 on the CPU, and on the device float32 against a loop that goes pass by pass, which is never recorded.
// Losses of ASAM on ResNet-20 and one batch of digits, each training in a process of its own: one process has one device. float32 is
// float32 there, without TensorFloat-32, and algorithms are deterministic ones.
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
const EXACT = { tf32Matmul: false, tf32Convolutions: false, deterministic: true };
const steps = Number(values.steps);
const batch = Number(values.batch);

/** The losses of a training whose every epoch is one step. */
async function losses({ device, dtype, by }) {
  const onDevice = await useDevice(device, EXACT);
  const { models, SGD, ASAM, Trainer, datasets } = flatmin;
  const train = (await datasets.digits()).take(batch);
  const model = models.resnet20({ inputShape: [1, 8, 8], seed: 1, dtype });
  // A rate at which the loss falls to a fifth: near 0, relative differences would say nothing.
  const optimizer = new ASAM(new SGD(model, { lr: 0.001, momentum: 0.9, weightDecay: 5e-4 }), { rho: 0.5 });
  if (by === 'passes') return byPasses(model, optimizer, train);
  const settings = { epochs: steps, batchSize: batch, schedule: 'constant', ...onDevice };
  const { epochs } = await new Trainer({ model, optimizer, train, ...settings }).fit();
  return epochs.map((epoch) => epoch.train.loss);
}

async function byPasses(model, optimizer, train) {
  const found = [];
  for (let step = 0; step < steps; step += 1) {
    for await (const images of train.batches({ batchSize: batch, epoch: step })) {
      found.push(await model.backward(images));
      await optimizer.ascentStep();
      await model.backward(images);
      await optimizer.descentStep();
    }
  }
  return found;
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
  const comparisons = [
    compare({ device, dtype: 'bfloat16' }, { device: 'cpu', dtype: 'float32' }, 0.01),
    compare({ device, dtype: 'float32' }, { device, dtype: 'float32', by: 'passes' }, 1e-5),
  ];
  await useDevice(device);
  report(values.out, { device, steps, batch, switches: EXACT, comparisons });
  if (!comparisons.every(({ met }) => met)) process.exitCode = 1;
}
