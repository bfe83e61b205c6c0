// `dataset.batches`: what training gets, in the number type that is asked for, from images in memory and from files.

import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type BatchesOptions, type Dataset, datasets, models, SGD, Trainer } from '../src/index.js';
import { temporaryFolder } from './support/folder.js';
import { greyPng } from './support/png.js';
import { errorOf, weightsOf } from './support.js';

const root = temporaryFolder('batches');
let files: Dataset;

beforeAll(async () => {
  for (let number = 0; number < 20; number += 1) {
    const folder = join(root, 'photos', number % 2 === 0 ? 'a' : 'b');
    mkdirSync(folder, { recursive: true });
    const pixels = Uint8Array.from({ length: 144 }, (_, place) => (place * 7 + number * 11) % 256);
    writeFileSync(join(folder, `${number}.png`), greyPng(12, pixels));
  }
  files = await datasets.imageFolder(join(root, 'photos'), { size: 8 });
});

const floats = () =>
  datasets.fromArrays({
    images: Float32Array.from({ length: 10 * 12 }, (_, index) => (index % 100) / 100),
    labels: Array.from({ length: 10 }, (_, index) => index % 2),
    shape: [2, 3, 2],
  });

/** Images and labels of an epoch, as numbers. */
async function read(set: Dataset, options: BatchesOptions = {}): Promise<{ images: number[]; labels: number[] }[]> {
  const all: { images: number[]; labels: number[] }[] = [];
  for await (const { images, labels } of set.batches({ batchSize: 6, ...options }))
    all.push({ images: Array.from(await images.data(), Number), labels: Array.from(await labels.data(), Number) });
  return all;
}

const everything: BatchesOptions = {
  seed: 3,
  augment: {
    resizedCrop: {},
    flip: true,
    colorJitter: { brightness: 0.4, hue: 0.1 },
    policy: { type: 'trivialAugment' },
    erasing: {},
    cutout: 3,
  },
};

describe('batches', () => {
  it('are those that a Trainer trains on: a loop of steps gives the same weights, bit for bit', async () => {
    const train = datasets.digits().take(100);
    const options = { batchSize: 16, seed: 5, augment: { padCrop: 1, mixup: 0.4 } } as const;
    const start = () => {
      const model = models.demo({ seed: 2 });
      return { model, optimizer: new SGD(model, { lr: 0.05, momentum: 0.9 }) };
    };
    const trained = start();
    await new Trainer({ ...trained, train, epochs: 2, ...options }).fit();
    const looped = start();
    for (let epoch = 0; epoch < 2; epoch += 1) {
      for await (const batch of train.batches({ ...options, epoch })) await looped.optimizer.step(batch);
    }
    const [expected, found] = [await weightsOf(trained.model), await weightsOf(looped.model)];
    expect(found).toEqual(expected);
  });

  it('do not depend on threads, and can be taken up anywhere', async () => {
    for (const set of [files, datasets.digits().take(40)]) {
      const options = set === files ? everything : { seed: 3, augment: 'standard' as const };
      const whole = await read(set, { ...options, loaderThreads: 0 });
      for (const loaderThreads of [1, 2, 7]) {
        expect(await read(set, { ...options, loaderThreads })).toEqual(whole);
        expect(await read(set, { ...options, loaderThreads, startBatch: 2 })).toEqual(whole.slice(2));
      }
      expect(await read(set, { ...options, epoch: 1 })).not.toEqual(whole);
    }
  });

  it('come in four number types that show the same', async () => {
    for (const set of [files, datasets.digits().take(10), floats()]) {
      const { mean, std } = set.normalization;
      const channels = mean.length;
      const shown = { batchSize: 5, seed: 1, augment: { flip: true } };
      const single = await read(set, shown);
      expect(await read(set, { ...shown, dtype: 'float64' })).toEqual(single);
      const bytes = await read(set, { ...shown, dtype: 'uint8' });
      const half = await read(set, { ...shown, dtype: 'bfloat16' });
      for (const [number, { images, labels }] of single.entries()) {
        const area = images.length / labels.length / channels;
        expect([bytes[number]?.labels, half[number]?.labels]).toEqual([labels, labels]);
        for (const [place, value] of images.entries()) {
          const channel = Math.floor(place / area) % channels;
          const pixel = 255 * (value * (std[channel] as number) + (mean[channel] as number));
          const byte = bytes[number]?.images[place] as number;
          expect(Number.isInteger(byte) && Math.abs(byte - pixel) <= 0.501).toBe(true);
          expect(Math.abs((half[number]?.images[place] as number) - value)).toBeLessThanOrEqual(Math.abs(value) / 256);
        }
      }
    }
  });

  it('tell their shape and number type, and models read bfloat16', async () => {
    for (const dtype of ['float32', 'float64', 'bfloat16', 'uint8'] as const) {
      for await (const { images, labels } of files.batches({ batchSize: 6, dtype, ...everything })) {
        expect([images.dtype, images.shape.slice(1), labels.dtype]).toEqual([dtype, [3, 8, 8], 'int64']);
      }
    }
    const model = models.demo({ seed: 1 });
    for await (const batch of datasets.digits().take(8).batches({ dtype: 'bfloat16' }))
      expect(await model.backward(batch)).toBeGreaterThan(0);
    for await (const batch of datasets.digits().take(8).batches({ dtype: 'uint8' }))
      expect((await errorOf(() => model.backward(batch))).code).toBe('ERR_FLATMIN_DTYPE');
  });

  it('have distributions for labels where images are mixed', async () => {
    for await (const { labels } of datasets
      .digits()
      .take(20)
      .batches({ augment: { cutmix: 1 } })) {
      expect([labels.dtype, labels.shape]).toEqual(['float64', [20, 10]]);
      const sum = Array.from(await labels.data(), Number).reduce((total, share) => total + share, 0);
      expect(sum).toBeCloseTo(20, 10);
    }
  });

  it('take a normalisation of their own', async () => {
    const plain = await read(floats(), { normalization: { mean: [0, 0], std: [1, 1] }, shuffle: false });
    expect(plain[0]?.images[0]).toBe(floats().pixels(0)[0]);
  });

  it('end their threads when a loop is left, fails or is over', async () => {
    const threads = () => readdirSync('/proc/self/task').length;
    await read(files);
    const before = threads();
    for (let round = 0; round < 5; round += 1) {
      for await (const _ of files.batches({ batchSize: 1, loaderThreads: 4 })) break;
      await expect(
        (async () => {
          for await (const _ of files.batches({ batchSize: 1, loaderThreads: 4 })) throw new Error('mine');
        })(),
      ).rejects.toThrow('mine');
      await read(files, { loaderThreads: 4 });
    }
    expect(threads()).toBe(before);
  });

  it('end with the error of an image that cannot be decoded, or leave it out', async () => {
    const folder = join(root, 'damaged', 'a');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, '0.png'), greyPng(12, new Uint8Array(144)));
    writeFileSync(join(folder, '1.png'), 'no image');
    const strict = await datasets.imageFolder(join(root, 'damaged'), { size: 8 });
    expect((await errorOf(() => read(strict))).code).toBe('ERR_FLATMIN_FORMAT');
    const skipping = await datasets.imageFolder(join(root, 'damaged'), { size: 8, badImages: 'skip' });
    expect((await read(skipping)).flatMap(({ labels }) => labels)).toEqual([0]);
    expect(skipping.faults().count).toBe(1);
  });

  it.each([
    ['mixed bytes', { dtype: 'uint8', augment: { mixup: 1 } }, 'dtype is uint8'],
    ['an unknown number type', { dtype: 'float16' }, "'dtype'"],
    ['a batch of nothing', { batchSize: 0 }, "'batchSize'"],
    ['a misspelt option', { batchsize: 8 }, "did you mean 'batchSize'?"],
    ['a place behind the end', { startBatch: 99 }, 'startBatch is 99'],
    ['batches that are all dropped', { batchSize: 64, dropLast: true }, 'batchSize is 64'],
    ['a normalisation of other channels', { normalization: { mean: [0], std: [1] } }, 'normalization.mean'],
    ['a negative epoch', { epoch: -1 }, "'epoch'"],
  ])('refuse %s', async (_what, options, message) => {
    expect(await errorOf(() => read(files, options as never))).toMatchObject({
      code: 'ERR_FLATMIN_OPTION',
      message: expect.stringContaining(message),
    });
  });
});
