// Image folders, shards and archives as users meet them: opened, looked at, packed, checked, drawn.

import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { list } from 'tar';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Dataset, datasets, type EpochEvent, type JobProgress, models, SGD, Trainer } from '../src/index.js';
import { flatmin } from './support/cli.js';
import { temporaryFolder } from './support/folder.js';
import { greyPng } from './support/png.js';
import { errorOf } from './support.js';

const root = temporaryFolder('tools');
const photos = join(root, 'photos');

/** Eight pictures of two classes under train/ and val/. */
beforeAll(async () => {
  for (const part of ['train', 'val']) {
    for (let number = 0; number < 8; number += 1) {
      const folder = join(photos, part, number % 2 === 0 ? 'n01440764' : 'n01443537');
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, `photo-${number}.png`), picture(30 * number));
    }
  }
});

/** One grey, 12 x 12. */
const picture = (grey: number) => greyPng(12, new Uint8Array(144).fill(grey));

const open = () => datasets.imageFolder(join(photos, 'train'), { size: 8 });

const reds = (set: Dataset) =>
  Array.from({ length: set.length }, (_, index) => Math.round(255 * (set.get(index).image[0] as number)));

describe('datasets.imageFolder', () => {
  it('has classes by readable names, and images of one size', async () => {
    const set = await open();
    expect([set.length, set.shape, set.classNames]).toEqual([8, [8, 8, 3], ['tench', 'goldfish']]);
    expect(Array.from(set.labels())).toEqual([0, 0, 0, 0, 1, 1, 1, 1]);
    const item = set.get(5);
    expect([item.label, item.image.length, item.name]).toEqual([
      1,
      8 * 8 * 3,
      join(photos, 'train/n01443537/photo-3.png'),
    ]);
    expect(reds(set)).toEqual([0, 60, 120, 180, 30, 90, 150, 210]);
    expect((await datasets.describe(open())).classes.map(({ count }) => count)).toEqual([4, 4]);
  });

  it('is told the size as a side or as height and width', async () => {
    const wide = await datasets.imageFolder(join(photos, 'train'), { size: [4, 6], resize: 8 });
    expect(wide.shape).toEqual([4, 6, 3]);
    expect(wide.get(0).image).toHaveLength(4 * 6 * 3);
  });

  it.each([
    ['a folder that is not there', () => datasets.imageFolder('/nowhere'), 'ERR_FLATMIN_PATH'],
    ['a folder without classes', () => datasets.imageFolder(join(photos, 'train/n01440764')), 'ERR_FLATMIN_DATA'],
    ['a size of nothing', () => datasets.imageFolder(photos, { size: 0 }), 'ERR_FLATMIN_OPTION'],
    [
      'a resize below the size',
      () => datasets.imageFolder(join(photos, 'val'), { size: 8, resize: 7 }),
      'ERR_FLATMIN_OPTION',
    ],
    ['an unknown policy', () => datasets.imageFolder(photos, { badImages: 'ignore' as never }), 'ERR_FLATMIN_OPTION'],
    ['shards that are none', () => datasets.webdataset([]), 'ERR_FLATMIN_OPTION'],
    ['shards that are not there', () => datasets.webdataset('/nowhere/*.tar'), 'ERR_FLATMIN_PATH'],
    ['an archive that is none', () => datasets.npz(join(photos, 'train/n01440764/photo-0.png')), 'ERR_FLATMIN_FORMAT'],
    ['idx files that are not there', () => datasets.mnist(photos), 'ERR_FLATMIN_PATH'],
    [
      'a part that there is not',
      () => datasets.fashionMnist(photos, { split: 'extra' as never }),
      'ERR_FLATMIN_OPTION',
    ],
    ['mat files that are not there', () => datasets.svhn(photos, { split: 'extra' }), 'ERR_FLATMIN_PATH'],
  ])('and its sisters refuse %s', async (_what, action, code) => {
    expect((await errorOf(action)).code).toBe(code);
  });
});

describe('datasets.pack', () => {
  it('writes shards that tar reads, with the same images, and datasets.verify passes them', async () => {
    const shards = join(root, 'shards');
    const seen: JobProgress[] = [];
    const manifest = await datasets.pack(open(), shards, {
      samplesPerShard: 3,
      onProgress: (progress) => void seen.push(progress),
    });
    expect(manifest.shards.map(({ samples }) => samples)).toEqual([3, 3, 2]);
    expect(seen.at(-1)).toEqual({ done: 8, total: 8 });
    const members: string[] = [];
    await list({ file: join(shards, 'shard-000002.tar'), onReadEntry: (entry) => void members.push(entry.path) });
    expect(members.map((member) => member.replace(/\d\.png|\d\.cls/, ''))).toEqual(
      ['00000006', '00000006', '00000007', '00000007'].map((key) => `${key}-photo-`),
    );
    const packed = await datasets.webdataset(shards, { size: 8 });
    expect(packed.classNames).toEqual(['tench', 'goldfish']);
    expect(reds(packed).sort((a, b) => a - b)).toEqual([0, 30, 60, 90, 120, 150, 180, 210]);
    expect(await datasets.verify(shards)).toEqual({ shards: 3, images: 8, faultCount: 0, faults: [] });
    // Every image kept its label.
    for (let index = 0; index < packed.length; index += 1)
      expect(packed.get(index).label).toBe(
        ([0, 60, 120, 180].includes(reds(packed)[index] as number) ? 0 : 1) as number,
      );
  });

  it('can be aborted, and goes on', async () => {
    const shards = join(root, 'aborted');
    await expect(datasets.pack(open(), shards, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    });
    expect((await datasets.pack(open(), shards)).shards).toHaveLength(1);
  });

  it.each([
    ['a set in memory', () => datasets.pack(datasets.digits(), join(root, 'x')), 'ERR_FLATMIN_OPTION'],
    ['a quality beyond 100', () => datasets.pack(open(), join(root, 'x'), { quality: 101 }), 'ERR_FLATMIN_OPTION'],
    ['a prefix with a slash', () => datasets.pack(open(), join(root, 'x'), { prefix: 'a/b' }), 'ERR_FLATMIN_OPTION'],
    ['a folder without a manifest', () => datasets.verify(photos), 'ERR_FLATMIN_PATH'],
    ['more threads than any machine has', () => datasets.inspect(open(), { threads: 1000 }), 'ERR_FLATMIN_OPTION'],
  ])('and its sisters refuse %s', async (_what, action, code) => {
    expect((await errorOf(action)).code).toBe(code);
  });
});

describe('datasets.inspect', () => {
  it('tells sizes, classes, mean and deviation, and broken files by name', async () => {
    const folder = join(root, 'broken');
    await mkdir(join(folder, 'grey'), { recursive: true });
    await writeFile(join(folder, 'grey/a.png'), picture(51));
    await writeFile(join(folder, 'grey/b.png'), picture(153));
    await writeFile(join(folder, 'grey/c.jpg'), 'not an image');
    const found = await datasets.inspect(datasets.imageFolder(folder, { size: 8 }), { threads: 2 });
    expect(found).toMatchObject({
      count: 3,
      shape: [8, 8, 3],
      formats: { png: 2 },
      width: { min: 12, median: 12, max: 12 },
      height: { min: 12, median: 12, max: 12 },
      brokenCount: 1,
    });
    expect(found.broken[0]).toContain('grey/c.jpg');
    expect(found.measured.mean[0]).toBeCloseTo(0.4, 5);
    expect(found.measured.std[2]).toBeCloseTo(0.2, 5);
  });
});

describe('datasets.preview', () => {
  it('draws a PNG of the images it names', async () => {
    const file = join(root, 'sheet.png');
    const shown = await datasets.preview(open(), file, { rows: 2, columns: 3, augment: { flip: true } });
    expect([shown.rows, shown.columns, shown.labels.length]).toEqual([2, 3, 6]);
    expect((await readFile(file)).subarray(1, 4).toString()).toBe('PNG');
  });
});

describe('flatmin data', () => {
  const json = async (...args: string[]) => {
    const { code, stdout, stderr } = await flatmin(['data', ...args, '--json']);
    return { code, stderr, document: stdout === '' ? undefined : JSON.parse(stdout) };
  };
  const source = () => ['--data', 'imagefolder', '--data-dir', photos];
  const images = () => [...source(), '--size', '8'];

  it('inspects, packs, verifies and draws', async () => {
    const inspected = await json('inspect', ...images(), '--split', 'test');
    expect(inspected).toMatchObject({ code: 0, document: { count: 8, brokenCount: 0 } });
    const shards = join(root, 'cli-shards');
    for (const [split, part] of [
      ['train', 'train'],
      ['test', 'val'],
    ] as const) {
      const packed = await json('pack', ...source(), '--split', split, '--resize', '8', join(shards, part));
      expect(packed).toMatchObject({ code: 0, document: { images: 8, leftOut: [] } });
    }
    expect(await json('verify', join(shards, 'train'))).toMatchObject({ code: 0, document: { images: 8 } });
    const sheet = join(root, 'cli-sheet.png');
    const drawn = await json(
      'preview',
      '--data',
      'webdataset',
      '--data-dir',
      shards,
      '--size',
      '8',
      '--rows',
      '1',
      sheet,
    );
    expect(drawn).toMatchObject({ code: 0, document: { rows: 1, columns: 8 } });
    expect(drawn.document.classNames).toContain('tench');
  });

  it('prints a table for people', async () => {
    const { code, stdout } = await flatmin(['data', 'inspect', ...images()]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/imagefolder: 8 images, 2 classes of 4 to 4 images/);
    expect(stdout).toMatch(/goldfish +4/);
  });

  it('ends with code 1 when shards are damaged', async () => {
    const shards = join(root, 'damaged');
    await datasets.pack(open(), shards);
    await writeFile(join(shards, 'shard-000000.tar'), 'x');
    expect(await json('verify', shards)).toMatchObject({ code: 1, document: { faultCount: 1 } });
    expect(await readdir(shards)).toContain('shards.json');
  });

  it('tells how to get ImageNet, and what each data set needs', async () => {
    const { code, stderr } = await flatmin(['data', 'download', 'imagenet', root]);
    expect([code, stderr]).toEqual([1, expect.stringContaining('ILSVRC2012_img_train.tar')]);
    const train = await flatmin(['train', '--data', 'svhn']);
    expect([train.code, train.stderr]).toEqual([2, expect.stringContaining('data download svhn')]);
  });

  it('trains on shards', async () => {
    const args = ['--data', 'webdataset', '--data-dir', join(root, 'cli-shards'), '--size', '8', '--model', 'demo'];
    const { code, stdout, stderr } = await flatmin(['train', ...args, '--epochs', '1', '--no-save', '--json']);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain('"epoch"');
  });
});

describe('training on image files', () => {
  it('decodes and augments them as they are needed, and counts those that cannot be', async () => {
    const folder = join(root, 'training');
    for (const [name, value] of [
      ['dark', 30],
      ['light', 220],
    ] as const) {
      await mkdir(join(folder, 'train', name), { recursive: true });
      for (let number = 0; number < 6; number += 1)
        await writeFile(join(folder, 'train', name, `${number}.png`), picture(value + number));
    }
    await writeFile(join(folder, 'train/light/broken.jpg'), 'no picture');
    const train = await datasets.imageFolder(join(folder, 'train'), { size: 16, badImages: 'skip' });
    using model = models.create('demo', { inputShape: [3, 16, 16], numClasses: 2, seed: 1 });
    const events: EpochEvent[] = [];
    const run = new Trainer({
      ...{ model, optimizer: new SGD(model, { lr: 0.05, momentum: 0.9 }), train, epochs: 8, batchSize: 4 },
      augment: { resizedCrop: {}, flip: true, policy: { type: 'randAugment', magnitude: 1 }, erasing: {} },
      loaderThreads: 2,
    }).fit();
    for await (const event of run) if (event.type === 'epoch') events.push(event);
    expect(events.map(({ badImages }) => badImages)).toEqual(Array(8).fill(1));
    expect(events[0]?.warning).toContain('broken.jpg');
    expect(train.faults()).toMatchObject({ count: 1, messages: [expect.stringContaining('broken.jpg')] });
    const whole = await datasets.imageFolder(join(folder, 'train'), { size: 16, badImages: 'replace' });
    expect((await model.evaluate(whole)).accuracy).toBeGreaterThan(0.9);
  });

  it('gives the same files in another size', async () => {
    const set = await datasets.imageFolder(join(photos, 'train'), { size: 16 });
    expect(set.withSize(12).shape).toEqual([12, 12, 3]);
    expect(set.withSize([8, 10], { resize: 10 }).pixels(0)).toHaveLength(8 * 10 * 3);
    expect(await errorOf(() => set.withSize(12, { resize: 11 }))).toMatchObject({ code: 'ERR_FLATMIN_OPTION' });
    expect(await errorOf(() => datasets.digits().withSize(12))).toMatchObject({ code: 'ERR_FLATMIN_OPTION' });
  });

  it('refuses options of augmentation that are out of range, by name', async () => {
    using model = models.create('demo', { seed: 1 });
    const trainer = (augment: object) =>
      errorOf(() => new Trainer({ model, optimizer: new SGD(model, { lr: 0.1 }), train: datasets.digits(), augment }));
    for (const augment of [
      { policy: { type: 'randAugment', magnitude: 31 } },
      { policy: { type: 'autoAugment', set: 'mnist' } },
      { resizedCrop: { scale: [0, 2] } },
      { colorJitter: { hue: 0.7 } },
      { cutout: 0 },
    ])
      expect(await trainer(augment)).toMatchObject({ code: 'ERR_FLATMIN_OPTION' });
  });
});
