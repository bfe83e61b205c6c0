// A net on ImageNet, or any folder of images, with ASAM as the recipes of its size have it: random resized crops, label
// smoothing, a cosine schedule with warm-up, bfloat16; top-1 and top-5 on centre crops after each epoch.
// Run: node --loader ts-node/esm examples/imagenet.ts FOLDER [options]; FOLDER holds train/ and val/, each with one subfolder a
// class. `flatmin train --config examples/imagenet.yaml --data-dir FOLDER` does the same.

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ASAM, datasets, models, SGD, Trainer } from 'flatmin';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string', default: 'resnet50' },
    epochs: { type: 'string', default: '90' },
    'batch-size': { type: 'string', default: '256' },
    size: { type: 'string', default: '224' }, // side of the images, in pixels
    from: { type: 'string' }, // their side in the first half of the epochs: progressive resizing
    'run-dir': { type: 'string', default: 'runs/imagenet' },
  },
});
const [folder = 'imagenet'] = positionals;
const [epochs, size] = [Number(values.epochs), Number(values.size)];

const images = { size, badImages: 'replace' } as const;
const train = await datasets.imageFolder(join(folder, 'train'), images);
const test = await datasets.imageFolder(join(folder, 'val'), images);
const { numClasses, classNames, normalization } = train;

const model = models.create(values.model, {
  ...{ numClasses, classNames, normalization, dtype: 'bfloat16', seed: 1 },
  inputShape: [3, size, size],
});
const optimizer = new ASAM(new SGD(model, { lr: 0.1, momentum: 0.9, weightDecay: 1e-4 }), { rho: 1, eta: 0.01 });
const trainer = new Trainer({
  ...{ model, optimizer, train, test, epochs },
  batchSize: Number(values['batch-size']),
  schedule: { type: 'cosine', warmupEpochs: Math.min(5, epochs / 10) },
  loss: { type: 'crossEntropy', labelSmoothing: 0.1 },
  augment: 'imagenet', // random resized crop, flip
  ...(values.from !== undefined && { progressiveResizing: Number(values.from) }),
  runDir: values['run-dir'],
});

const run = trainer.fit();
process.once('SIGINT', () => run.stop());
for await (const event of run) {
  if (event.type !== 'epoch') continue;
  const { epoch, test: scores, imagesPerSecond, dataSeconds, badImages, warning } = event;
  console.log(
    `epoch ${epoch}: top-1 ${scores?.accuracy.toFixed(4)}, top-5 ${scores?.top5.toFixed(4)}, ` +
      `${imagesPerSecond.toFixed(0)} images/s, waited ${dataSeconds.toFixed(1)} s for data`,
  );
  if (badImages > 0) console.warn(warning);
}
await model.save(join(values['run-dir'], `${values.model}.safetensors`));
