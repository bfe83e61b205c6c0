// TensorBoard files, decoded here by hand: framing with bit-by-bit checksums, and the fields of tensorflow's event.proto.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  type Dataset,
  datasets,
  type EpochEvent,
  models,
  SAM,
  SGD,
  type StepEvent,
  type TrainEvent,
  Trainer,
} from '../src/index.js';
import { temporaryFolder } from './support/folder.js';
import { errorOf } from './support.js';

const folder = temporaryFolder('tensorboard');

/** CRC-32C by its definition: the reflected polynomial 0x82f63b78, a bit at a time. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

const masked = (bytes: Uint8Array) => ((((crc32c(bytes) >>> 15) | (crc32c(bytes) << 17)) >>> 0) + 0xa282ead8) % 2 ** 32;

function records(file: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at < file.length; ) {
    const length = Number(file.readBigUInt64LE(at));
    const data = file.subarray(at + 12, at + 12 + length);
    expect(file.readUInt32LE(at + 8)).toBe(masked(file.subarray(at, at + 8)));
    expect(file.readUInt32LE(at + 12 + length)).toBe(masked(data));
    found.push(data);
    at += 16 + length;
  }
  return found;
}

type Field = { tag: number; value: number | Buffer };

/** The fields of a protobuf message: varint (0), 64 bits (1), bytes (2), 32 bits (5). */
function fields(message: Buffer): Field[] {
  const found: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = message[at++] ?? 0;
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  const bytes = (length: number): Buffer => {
    at += length;
    return message.subarray(at - length, at);
  };
  while (at < message.length) {
    const key = varint();
    const [tag, type] = [key >>> 3, key & 7];
    if (type === 0) found.push({ tag, value: varint() });
    else found.push({ tag, value: bytes(type === 1 ? 8 : type === 5 ? 4 : varint()) });
  }
  return found;
}

const field = (message: Buffer, tag: number) => fields(message).find((each) => each.tag === tag)?.value;

interface Decoded {
  wallTime: number;
  step: number;
  version: string | undefined;
  session: number | undefined;
  scalars: Record<string, number>;
}

function decode(message: Buffer): Decoded {
  const [time, step, version, summary, session] = [1, 2, 3, 5, 7].map((tag) => field(message, tag));
  const values = summary === undefined ? [] : fields(summary as Buffer).map(({ value }) => value as Buffer);
  return {
    wallTime: (time as Buffer).readDoubleLE(),
    step: step as number,
    version: version?.toString(),
    session: session === undefined ? undefined : (field(session as Buffer, 1) as number),
    scalars: Object.fromEntries(
      values.map((value) => [String(field(value, 1)), (field(value, 2) as Buffer).readFloatLE()]),
    ),
  };
}

/** Events of the files of a split, in the order in which TensorBoard reads them. */
function decodeSplit(runDir: string, split: string): Decoded[][] {
  const path = join(runDir, 'tensorboard', split);
  const names = readdirSync(path).sort();
  for (const name of names) expect(name).toMatch(/^events\.out\.tfevents\.\d{10}\./);
  return names.map((name) => records(readFileSync(join(path, name))).map(decode));
}

function makeTrainer(runDir: string | undefined, epochs: number): Trainer {
  const model = models.create('demo', { seed: 1 });
  const [train, test] = datasets.digits().take(250).split([0.8, 0.2], { seed: 1 }) as [Dataset, Dataset];
  return new Trainer({
    ...{ model, optimizer: new SAM(new SGD(model, { lr: 0.05 }), { rho: 0.1 }), epochs, seed: 1, threads: 1 },
    ...{ train, test, batchSize: 64, stepEventMs: 0, tensorboard: true, runDir },
  });
}

describe('TensorBoard files of a run', () => {
  const runDir = join(folder, 'run');
  const told: TrainEvent[] = [];
  let first: Decoded[] = [];
  let resumed: Decoded[] = [];
  let epochs: EpochEvent[] = [];

  beforeAll(async () => {
    for await (const event of makeTrainer(runDir, 2).fit()) told.push(event);
    await makeTrainer(runDir, 3).resume(runDir);
    [first = [], resumed = []] = decodeSplit(runDir, 'train');
    epochs = told.filter((event): event is EpochEvent => event.type === 'epoch');
  });

  it('begin with the version and a session at the first step', () => {
    expect(first[0]).toMatchObject({ version: 'brain.Event:2', scalars: {} });
    expect(first[1]).toMatchObject({ step: 1, session: 1, scalars: {} });
    expect(resumed[0]).toMatchObject({ version: 'brain.Event:2' });
    // Two epochs of four steps were done; what was written for later ones is void.
    expect(resumed[1]).toMatchObject({ step: 9, session: 1 });
    const now = Date.now() / 1000;
    for (const { wallTime } of [...first, ...resumed]) expect(now - wallTime).toBeLessThan(600);
  });

  it('hold the values of each epoch at its last step', () => {
    const found = first.filter(({ scalars }) => 'epoch/loss' in scalars);
    expect(found.map(({ step }) => step)).toEqual([4, 8]);
    for (const [index, { scalars }] of found.entries()) {
      const { train, sharpness, generalizationGap, lr, rho, seconds } = epochs[index] as EpochEvent;
      expect(scalars).toMatchObject({
        'epoch/loss': Math.fround(train.loss),
        'epoch/accuracy': Math.fround(train.accuracy),
        'epoch/sharpness': Math.fround(sharpness ?? Number.NaN),
        'epoch/generalization_gap': Math.fround(generalizationGap ?? Number.NaN),
        'epoch/learning_rate': Math.fround(lr),
        'epoch/rho': Math.fround(rho ?? Number.NaN),
        'epoch/seconds': Math.fround(seconds),
      });
    }
    expect(resumed.filter(({ scalars }) => 'epoch/loss' in scalars).map(({ step }) => step)).toEqual([12]);
  });

  it('hold the scores on the test set in a folder of their own', () => {
    const [scores = []] = decodeSplit(runDir, 'test');
    expect(scores.slice(2).map(({ step, scalars }) => [step, scalars])).toEqual(
      epochs.map(({ test }, index) => [
        4 * (index + 1),
        {
          'epoch/loss': Math.fround(test?.loss ?? 0),
          'epoch/accuracy': Math.fround(test?.accuracy ?? 0),
          'epoch/top5': Math.fround(test?.top5 ?? 0),
        },
      ]),
    );
    expect(existsSync(join(runDir, 'tensorboard', 'validation'))).toBe(false);
  });

  it('hold steps, no more than one a second', () => {
    const steps = first.filter(({ scalars }) => 'step/loss' in scalars);
    const events = told.filter((event): event is StepEvent => event.type === 'step');
    expect(steps.length).toBeGreaterThan(0);
    for (const { step, scalars } of steps) {
      const event = events.find((each) => each.step === step);
      if (event === undefined) continue;
      expect(scalars['step/loss']).toBe(Math.fround(event.loss));
      expect(scalars['step/gradient_norm']).toBe(Math.fround(event.gradientNorm));
    }
    const times = steps.map(({ wallTime }) => wallTime);
    for (const [index, time] of times.slice(1).entries()) expect(time - (times[index] ?? 0)).toBeGreaterThan(0.9);
  });
});

it('a run whose files cannot be written ends with an error that names them', async () => {
  const runDir = join(folder, 'blocked');
  const trainer = makeTrainer(runDir, 1000);
  const run = trainer.fit();
  const error = await errorOf(async () => {
    for await (const event of run) if (event.type === 'start') writeFileSync(join(runDir, 'tensorboard'), 'a file');
  });
  expect(error.code).toBe('ERR_FLATMIN_PATH');
  expect(error.message).toContain(join(runDir, 'tensorboard'));
});

it('needs a run folder', async () => {
  const error = await errorOf(() => makeTrainer(undefined, 1));
  expect(error).toMatchObject({ code: 'ERR_FLATMIN_OPTION', message: expect.stringContaining('runDir') });
});
