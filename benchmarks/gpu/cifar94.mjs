// CIFAR-10 to 94 % with ASAM, in as few seconds as possible:
//   node benchmarks/gpu/cifar94.mjs --data-dir DIR --runs 5 --out cifar94.json
// The net is the nine-layer ResNet of David Page's "How to train your ResNet", with his augmentation (pad 4, crop, flip, cutout 8) and
// triangular rate, label smoothing and an EMA of the weights; ASAM lets it do with fewer epochs, each of which costs two passes.
// Timed is a whole `fit`, from the call to the last step; the test set is looked at afterwards, the time of that beside it. The data
// lie in memory then, and a run of a few steps has brought the libraries and their kernels to the GPU. It spares the others neither
// cuDNN's search for algorithms, which is kept thread by thread (a run has one of its own), nor the recording of their graphs: both
// are timed, in the first epoch; `firstEpochSeconds` and `laterEpochSeconds` tell.
// `accuracy` is that of logits averaged over each test image and its mirror, as is usual in such runs (Page's, airbench's);
// `plainAccuracy` that of the images alone. Left out so far: a whitening first layer, and airbench's further views, moved by a pixel.
import { parseArgs } from 'node:util';
import { median } from '../../dist/bench/statistics.js';
import { flatmin, noise, report, useDevice } from './common.mjs';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda' },
    'data-dir': { type: 'string' },
    runs: { type: 'string', default: '5' },
    epochs: { type: 'string', default: '14' },
    batch: { type: 'string', default: '512' },
    lr: { type: 'string', default: '0.4' },
    rho: { type: 'string', default: '0.5' },
    tiny: { type: 'boolean', default: false },
    out: { type: 'string', default: 'cifar94.json' },
  },
});
const { device, tiny } = values;
const [runs, epochs, batchSize, lr, rho] = ['runs', 'epochs', 'batch', 'lr', 'rho'].map((name) => Number(values[name]));

const { layers, Model, SGD, ASAM, Trainer, datasets } = flatmin;
const { conv2d, batchNorm2d, relu, maxPool2d, residual, flatten, linear } = layers;

const block = (channels) => [
  conv2d(channels, 3, { padding: 1, bias: false, init: 'kaimingNormal' }),
  batchNorm2d(),
  relu(),
];

/** Page's net, [3, 32, 32] to ten classes; `width` 64 is his. */
function resnet9(width, options) {
  const net = [
    ...block(width),
    ...block(2 * width),
    maxPool2d(2),
    residual([...block(2 * width), ...block(2 * width)]),
    ...block(4 * width),
    maxPool2d(2),
    ...block(8 * width),
    maxPool2d(2),
    residual([...block(8 * width), ...block(8 * width)]),
    maxPool2d(4),
    flatten(),
    linear(10, { bias: false }),
  ];
  return Model.sequential(net, { name: 'resnet9', ...options });
}

async function train(seed, images, settings) {
  const { normalization } = images;
  const model = resnet9(tiny ? 4 : 64, { inputShape: [3, 32, 32], seed, dtype: 'bfloat16', normalization });
  const sgd = new SGD(model, { lr, momentum: 0.9, weightDecay: 5e-4, nesterov: true });
  const trainer = new Trainer({
    ...{ model, optimizer: new ASAM(sgd, { rho }), train: images, epochs, batchSize, seed, dropLast: true },
    schedule: { type: 'oneCycle', pctStart: 0.2, anneal: 'linear', cycleMomentum: false },
    augment: { padCrop: 4, flip: true, cutout: 8 },
    loss: { type: 'crossEntropy', labelSmoothing: 0.2 },
    average: { type: 'ema', decay: 0.99, warmup: true },
    ...settings,
  });
  const start = performance.now();
  const { result, epochs: done } = await trainer.fit();
  const seconds = (performance.now() - start) / 1000;
  const { accuracy, count } = await model.evaluate(test, { batchSize: 1000, mirror: true });
  const evaluationSeconds = (performance.now() - start) / 1000 - seconds;
  const { accuracy: plainAccuracy } = await model.evaluate(test, { batchSize: 1000 });
  model.dispose();
  const [first, ...later] = done.map((epoch) => epoch.seconds);
  const epochTimes = { firstEpochSeconds: first, laterEpochSeconds: later.length > 0 ? median(later) : null };
  const { imagesPerSecond } = result;
  return { seed, seconds, ...epochTimes, accuracy, plainAccuracy, evaluationSeconds, count, imagesPerSecond };
}

const onDevice = await useDevice(device, { cudnnBenchmark: true });
// Noise in the shape of CIFAR serves where only the script is tried.
const source = (split) => (tiny ? noise(2 * batchSize) : datasets.cifar10(values['data-dir'], { split }));
const [images, test] = [await source('train'), await source('test')];
// More steps than are made before a step is recorded as a graph.
await train(0, images, { ...onDevice, maxSteps: tiny ? 2 : 8 });
const results = [];
for (let seed = 1; seed <= runs; seed += 1) {
  results.push(await train(seed, images, tiny ? { ...onDevice, maxSteps: 2 } : onDevice));
  process.stderr.write(`${JSON.stringify(results.at(-1))}\n`);
}
const mean = (name) => results.reduce((sum, result) => sum + result[name], 0) / results.length;
report(values.out, {
  ...{ device, tiny, epochs, batchSize, lr, rho, runs: results },
  ...{
    seconds: mean('seconds'),
    firstEpochSeconds: mean('firstEpochSeconds'),
    accuracy: mean('accuracy'),
    plainAccuracy: mean('plainAccuracy'),
    lowest: Math.min(...results.map(({ accuracy }) => accuracy)),
  },
});
