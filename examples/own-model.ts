// A model and a data set of one's own: layers, data from a generator, training, saving, loading and predicting.
// Run: node --loader ts-node/esm examples/own-model.ts [epochs]

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AdamW, datasets, layers, Model, SAM, type Sample, Tensor, Trainer } from 'flatmin';

const epochs = Number(process.argv[2] ?? 8);
const size = 12;
const classNames = ['horizontal', 'vertical'];

/** Noisy images with one bright line, [height, width, channels] with one channel. */
function drawLine(index: number): Sample & { image: Float32Array } {
  const label = index % 2;
  const line = Math.floor(Math.random() * size);
  const image = Float32Array.from({ length: size * size }, (_, pixel) => {
    const place = label === 0 ? Math.floor(pixel / size) : pixel % size;
    return 0.6 * Math.random() + (place === line ? 0.4 : 0);
  });
  return { image, label };
}

async function* lines(count: number): AsyncGenerator<Sample> {
  for (let index = 0; index < count; index += 1) yield drawLine(index);
}

const data = await datasets.fromGenerator(lines(600), { shape: [size, size, 1], classNames });
const [train, test] = data.split([0.8, 0.2], { seed: 1 });

const model = Model.sequential(
  [
    layers.conv2d(8, 3, { padding: 1, bias: false }),
    layers.batchNorm2d(),
    layers.relu(),
    layers.residual([layers.conv2d(8, 3, { padding: 1, bias: false }), layers.batchNorm2d()]),
    layers.maxPool2d(2),
    layers.flatten(),
    layers.dropout(0.1),
    layers.linear(2),
  ],
  { inputShape: [1, size, size], classNames },
);
console.log(String(model.summary()));

const optimizer = new SAM(new AdamW(model, { lr: 0.01 }), { rho: 0.05 });
const trainer = new Trainer({
  model,
  optimizer,
  train,
  validation: 0.1,
  test,
  epochs,
  batchSize: 32,
  schedule: 'cosine',
});
for await (const event of trainer.fit()) {
  if (event.type === 'epoch')
    console.log(`epoch ${event.epoch}: validation accuracy ${event.validation?.accuracy.toFixed(2)}`);
}

const folder = await mkdtemp(join(tmpdir(), 'flatmin-example-'));
const file = join(folder, 'lines.safetensors');
await model.save(file);
const loaded = await Model.load(file);
const { image, label } = drawLine(1);
const [guesses] = await loaded.predict(Tensor.from(image, [1, 1, size, size]), { topK: 2 });
console.log(`a ${classNames[label]} line:`, guesses);
await rm(folder, { recursive: true });
