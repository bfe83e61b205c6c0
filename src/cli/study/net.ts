// Trains and measures one net of a study.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { sharpness } from '../../analysis/index.js';
import { type Callback, type Dataset, datasets, layers, Model, SGD, Trainer } from '../../index.js';
import { openSplit } from '../data.js';
import type { PlannedNet, StudyOptions } from './plan.js';
import { type NetRecord, writeRecord } from './record.js';

/** The images of a study. */
export interface StudyImages {
  readonly train: Dataset;
  readonly test: Dataset;
}

/** Digits have no official test set, so all images that are not trained on are tested on. */
const DIGITS_SEED = 0;

/** Opens the images; they are the same for all nets. */
export async function openStudyImages(options: StudyOptions): Promise<StudyImages> {
  const { data, trainImages, testImages } = options;
  const digits = data === 'digits' ? datasets.digits() : undefined;
  const [train, test] = digits
    ? (digits.split([trainImages, digits.length - trainImages], { seed: DIGITS_SEED }) as [Dataset, Dataset])
    : [(await openSplit(options, 'train')).take(trainImages), await openSplit(options, 'test')];
  return { train, test: testImages === undefined ? test : test.take(testImages) };
}

function build({ net, channels }: StudyOptions, dropout: number, seed: number, images: Dataset): Model {
  const [height, width, depth] = images.shape;
  const norm = net === 'batchNorm' ? [layers.batchNorm2d()] : [];
  const stage = (width: number) => [
    layers.conv2d(width, 3, { padding: 1, bias: net === 'plain' }),
    ...norm,
    layers.relu(),
    layers.maxPool2d(2),
  ];
  const head = [layers.dropout(dropout), layers.linear(4 * channels), layers.relu(), layers.dropout(dropout)];
  return Model.sequential(
    [...stage(channels), ...stage(2 * channels), layers.flatten(), ...head, layers.linear(images.numClasses)],
    { inputShape: [depth, height, width], seed, name: `study-${net}` },
  );
}

/** Ends training with the epoch after which the training loss is low enough. */
class UntilLoss implements Callback {
  reached = false;
  readonly #train: Dataset;
  readonly #target: number;

  constructor(train: Dataset, target: number) {
    this.#train = train;
    this.#target = target;
  }

  async onEpochEnd(
    _event: unknown,
    { model, stop }: Parameters<NonNullable<Callback['onEpochEnd']>>[1],
  ): Promise<void> {
    const { loss } = await model.evaluate(this.#train);
    if (loss > this.#target) return;
    this.reached = true;
    stop();
  }
}

/** Trains a net, measures it, and keeps its weights and its record; nothing is kept when `signal` ends it before. */
export async function makeNet(
  { point, seed, folder }: PlannedNet,
  options: StudyOptions,
  images: StudyImages,
  signal: AbortSignal,
): Promise<NetRecord> {
  const start = performance.now();
  const { batchSize, lr, weightDecay, dropout } = point;
  const { momentum, epochs, targetLoss, rho, adaptiveRho, steps, restarts } = options;
  using model = build(options, dropout, seed, images.train);
  const until = new UntilLoss(images.train, targetLoss);
  const optimizer = new SGD(model, { lr, momentum, weightDecay });
  const trainer = new Trainer({
    ...{ model, optimizer, train: images.train, epochs, batchSize, seed },
    // Several nets share the cores, one each.
    ...{ threads: 1, loaderThreads: 0, callbacks: [until] },
  });
  const { result } = await trainer.fit({ signal });
  const [train, test] = [await model.evaluate(images.train), await model.evaluate(images.test)];
  const search = { steps, restarts, seed, signal };
  const plain = await sharpness(model, images.train, { ...search, rho });
  const adaptive = await sharpness(model, images.train, { ...search, rho: adaptiveRho, scale: 'element' });
  const record: NetRecord = {
    ...{ point, seed, converged: until.reached, epochs: result.epochs, steps: result.steps },
    seconds: (performance.now() - start) / 1000,
    train: { loss: train.loss, accuracy: train.accuracy },
    test: { loss: test.loss, accuracy: test.accuracy },
    gap: { loss: test.loss - train.loss, error: train.accuracy - test.accuracy },
    measures: {
      sharpness: plain.points[0]?.sharpness ?? Number.NaN,
      adaptiveSharpness: adaptive.points[0]?.sharpness ?? Number.NaN,
      weightNorm: plain.weightNorm,
    },
  };
  await mkdir(folder, { recursive: true });
  await model.save(join(folder, 'model.safetensors'));
  await writeRecord(folder, record, options);
  return record;
}
