// Data sets: digits, arrays, generators, splits, noise, batches.

import { describe, expect, it } from 'vitest';
import { type Batch, datasets, type Sample } from '../src/index.js';
import { errorOf } from './support.js';

/** Four images of 1 x 2 pixels with 2 channels; image i has pixels 40 i, 40 i + 10, ... */
const tiny = () =>
  datasets.fromArrays({
    images: Uint8Array.from({ length: 16 }, (_, index) => index * 10),
    labels: [0, 1, 0, 1],
    shape: [1, 2, 2],
    classNames: ['even', 'odd'],
  });

describe('datasets.digits', () => {
  it('has 1,797 images of ten classes, with pixels in [0, 1]', () => {
    const digits = datasets.digits();
    expect([digits.name, digits.length, digits.shape, digits.numClasses]).toEqual(['digits', 1797, [8, 8, 1], 10]);
    const pixels = digits.pixels(0);
    expect(pixels).toHaveLength(64);
    expect(Math.min(...pixels)).toBe(0);
    expect(Math.max(...pixels)).toBeLessThanOrEqual(1);
    const { classes, count } = digits.describe();
    expect(classes.reduce((total, entry) => total + entry.count, 0)).toBe(count);
    expect(Math.min(...classes.map((entry) => entry.count))).toBeGreaterThan(150);
  });
});

describe('datasets.fromArrays', () => {
  it('keeps pixels, labels and names', () => {
    const set = tiny();
    expect([set.length, set.classNames, Array.from(set.labels())]).toEqual([4, ['even', 'odd'], [0, 1, 0, 1]]);
    expect(Array.from(set.pixels(1))).toEqual([40, 50, 60, 70].map((value) => Math.fround(value / 255)));
  });

  it('gives one image with its label', async () => {
    const { image, label, name } = tiny().get(1);
    expect([Array.from(image, (value) => Math.round(255 * value)), label, name]).toEqual([[40, 50, 60, 70], 1, null]);
    expect((await datasets.describe(tiny())).count).toBe(4);
    expect(await errorOf(() => tiny().get(4))).toMatchObject({ code: 'ERR_FLATMIN_OPTION' });
  });

  it('takes numbers in [0, 1], and copies', () => {
    const images = Float32Array.of(0.25, 0.5);
    const set = datasets.fromArrays({ images, labels: Uint8Array.of(0, 1), shape: [1, 1, 1] });
    images[0] = 1;
    expect([set.pixels(0)[0], set.numClasses]).toEqual([0.25, 2]);
  });

  const good = { images: new Uint8Array(2), labels: [0, 1], shape: [1, 1, 1] as [number, number, number] };
  it.each([
    ['nothing', undefined, 'ERR_FLATMIN_OPTION', 'shape'],
    ['no shape', { ...good, shape: undefined }, 'ERR_FLATMIN_OPTION', 'shape'],
    ['pixels of another kind', { ...good, images: [0, 1] }, 'ERR_FLATMIN_OPTION', 'Uint8Array'],
    ['too few pixels', { ...good, images: new Uint8Array(1) }, 'ERR_FLATMIN_SHAPE', 'expected 2'],
    ['labels that are fractions', { ...good, labels: [0, 0.5] }, 'ERR_FLATMIN_DATA', 'found 0.5 at 1'],
    ['labels that are none', { ...good, labels: 'ab' }, 'ERR_FLATMIN_OPTION', 'labels'],
    ['labels beyond the classes', { ...good, numClasses: 1 }, 'ERR_FLATMIN_DATA', ''],
    ['no images', { images: new Uint8Array(0), labels: [], shape: [1, 1, 1] }, 'ERR_FLATMIN_DATA', ''],
    ['pixels that are not finite', { ...good, images: Float32Array.of(0, Number.NaN) }, 'ERR_FLATMIN_DATA', 'NaN'],
    ['a misspelt option', { ...good, classnames: ['a', 'b'] }, 'ERR_FLATMIN_OPTION', "did you mean 'classNames'?"],
  ])('refuses %s', async (_what, input, code, message) => {
    expect(await errorOf(() => datasets.fromArrays(input as never))).toMatchObject({
      code,
      message: expect.stringContaining(message),
    });
  });
});

describe('datasets.fromGenerator', () => {
  async function* samples(count: number): AsyncGenerator<Sample> {
    for (let label = 0; label < count; label += 1) yield { image: Uint8Array.of(label, 0), label };
  }

  it('collects samples in their order, up to a limit', async () => {
    const set = await datasets.fromGenerator(samples(5), { shape: [1, 2, 1] });
    expect(Array.from(set.labels())).toEqual([0, 1, 2, 3, 4]);
    expect((await datasets.fromGenerator(samples(5), { shape: [1, 2, 1], limit: 2 })).length).toBe(2);
  });

  it('keeps a copy of an image that the generator writes again', async () => {
    const image = new Uint8Array(1);
    const again = function* (): Generator<Sample> {
      for (let label = 0; label < 3; label += 1) {
        image[0] = 100 * label;
        yield { image, label };
      }
    };
    const set = await datasets.fromGenerator(again(), { shape: [1, 1, 1] });
    expect(set.pixels(1)[0]).toBeCloseTo(100 / 255, 6);
  });

  it.each([
    ['nothing to iterate', () => datasets.fromGenerator(5 as never, { shape: [1, 1, 1] }), 'ERR_FLATMIN_OPTION', ''],
    ['no samples', () => datasets.fromGenerator(samples(0), { shape: [1, 2, 1] }), 'ERR_FLATMIN_DATA', 'no sample'],
    [
      'an image of another size',
      () => datasets.fromGenerator(samples(1), { shape: [2, 2, 1] }),
      'ERR_FLATMIN_SHAPE',
      'sample 0',
    ],
    [
      'a sample without an image',
      () => datasets.fromGenerator([{ label: 1 } as never], { shape: [1, 1, 1] }),
      'ERR_FLATMIN_OPTION',
      'sample 0',
    ],
    [
      'mixed kinds of pixels',
      () =>
        datasets.fromGenerator(
          [
            { image: new Uint8Array(1), label: 0 },
            { image: new Float32Array(1), label: 0 },
          ],
          { shape: [1, 1, 1] },
        ),
      'ERR_FLATMIN_DTYPE',
      'sample 1',
    ],
  ])('refuses %s', async (_what, action, code, message) => {
    expect(await errorOf(action)).toMatchObject({ code, message: expect.stringContaining(message) });
  });
});

describe('CIFAR readers', () => {
  it.each([
    ['a folder that is not there', () => datasets.cifar10('/nowhere'), 'ERR_FLATMIN_PATH'],
    ['a path that is none', () => datasets.cifar100('' as never), 'ERR_FLATMIN_OPTION'],
    ['an unknown split', () => datasets.cifar10('/nowhere', { split: 'valid' as never }), 'ERR_FLATMIN_OPTION'],
  ])('refuse %s', async (_what, action, code) => {
    expect((await errorOf(action)).code).toBe(code);
  });
});

describe('split', () => {
  const ids = (set: ReturnType<typeof tiny>): number[] =>
    Array.from({ length: set.length }, (_, index) => Math.round((set.pixels(index)[0] as number) * 255) / 40);

  it('gives disjoint parts that depend on the seed alone', () => {
    const [large, small] = tiny().split([0.75, 0.25], { seed: 1 });
    expect([...ids(large), ...ids(small)].sort()).toEqual([0, 1, 2, 3]);
    expect(tiny().split([0.75, 0.25], { seed: 1 }).map(ids)).toEqual([ids(large), ids(small)]);
    const seeds = [2, 3, 4, 5].map((seed) => tiny().split([3, 1], { seed }).map(ids).join());
    expect(new Set(seeds).size).toBeGreaterThan(1);
  });

  it('takes counts, and leaves the rest out', () => {
    expect(
      datasets
        .digits()
        .split([1297, 500])
        .map((part) => part.length),
    ).toEqual([1297, 500]);
    expect(
      tiny()
        .split([2])
        .map((part) => part.length),
    ).toEqual([2]);
    expect(
      tiny()
        .split([1])
        .map((part) => part.length),
    ).toEqual([4]);
  });

  it.each([[[]], [[0.5, 0.6]], [[3, 2]], [[1.5, 1]], [[0.01, 0.5]], [[-1, 2]], ['half']])(
    'refuses %j',
    async (sizes) => {
      expect((await errorOf(() => tiny().split(sizes as never))).code).toBe('ERR_FLATMIN_OPTION');
    },
  );
});

describe('withLabelNoise', () => {
  it('changes exactly the wanted share of labels, by seed, and leaves the set itself alone', () => {
    const digits = datasets.digits();
    const clean = digits.labels();
    const noisy = digits.withLabelNoise(0.4, { seed: 2 }).labels();
    expect(noisy.filter((label, index) => label !== clean[index])).toHaveLength(Math.round(1797 * 0.4));
    expect(digits.withLabelNoise(0.4, { seed: 2 }).labels()).toEqual(noisy);
    expect(digits.withLabelNoise(0.4, { seed: 3 }).labels()).not.toEqual(noisy);
    expect(digits.labels()).toEqual(clean);
  });

  it('refuses a share that is none', async () => {
    expect((await errorOf(() => tiny().withLabelNoise(40))).code).toBe('ERR_FLATMIN_OPTION');
  });
});

describe('take and pixels', () => {
  it('give the first images, and refuse what is not there', async () => {
    expect(tiny().take(2).length).toBe(2);
    expect(tiny().take(9).length).toBe(4);
    expect((await errorOf(() => tiny().take(0))).code).toBe('ERR_FLATMIN_OPTION');
    expect((await errorOf(() => tiny().pixels(4))).code).toBe('ERR_FLATMIN_OPTION');
  });
});

describe('batches', () => {
  it('are normalised, channels first, and cover each image once', async () => {
    const set = tiny();
    const { mean, std } = set.normalization;
    const seen: number[] = [];
    for await (const { images, labels } of set.batches({ batchSize: 3, seed: 4 })) {
      expect(images.shape).toEqual([labels.shape[0], 2, 1, 2]);
      const pixels = Array.from(await images.data(), Number);
      const classes = Array.from(await labels.data(), Number);
      for (const [image, label] of classes.entries()) {
        const raw = pixels.slice(image * 4, image * 4 + 4).map((value, place) => {
          const channel = Math.floor(place / 2);
          return Math.round((value * (std[channel] as number) + (mean[channel] as number)) * 255);
        });
        const first = raw[0] as number;
        expect(raw).toEqual([first, first + 20, first + 10, first + 30]);
        expect(label).toBe((first / 40) % 2);
        seen.push(first / 40);
      }
    }
    expect(seen.sort()).toEqual([0, 1, 2, 3]);
  });

  it('depend on the seed alone, keep the order without shuffle, and can drop the last', async () => {
    const order = async (options: object) => {
      const labels: number[][] = [];
      for await (const batch of datasets
        .digits()
        .take(50)
        .batches({ batchSize: 20, ...options }))
        labels.push(Array.from(await batch.labels.data(), Number));
      return labels;
    };
    expect(await order({ seed: 1 })).toEqual(await order({ seed: 1 }));
    expect(await order({ seed: 1 })).not.toEqual(await order({ seed: 2 }));
    expect((await order({ shuffle: false })).flat()).toEqual(Array.from(datasets.digits().take(50).labels()));
    expect((await order({ dropLast: true })).map((labels) => labels.length)).toEqual([20, 20]);
  });

  it('free a batch when the next one is drawn', async () => {
    const kept: Batch[] = [];
    for await (const batch of tiny().batches({ batchSize: 2 })) kept.push(batch);
    expect(await errorOf(() => kept[0]?.images.shape)).toMatchObject({ code: 'ERR_FLATMIN_DISPOSED' });
  });
});
