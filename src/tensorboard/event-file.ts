// TensorBoard's event files: records of TFRecord's framing, each an `Event` message of tensorflow/core/util/event.proto.
// Only what scalars need is written: the version, the start of a session, and summaries with simple values.
import { appendFile, mkdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import crc32c from 'crc-32/crc32c.js';
import { PbfWriter } from 'pbf';
import { FlatminError } from '../errors.js';

/** Values by tag; TensorBoard keeps them as float32. */
export type Scalars = ReadonlyMap<string, number>;

/** A message with its time and step, and a field of its own. */
function encodeEvent(step: number, write: (pbf: PbfWriter) => void): Uint8Array {
  const pbf = new PbfWriter();
  pbf.writeDoubleField(1, Date.now() / 1000);
  pbf.writeVarintField(2, step);
  write(pbf);
  return pbf.finish();
}

/** The first record of a file. Of version 2, readers understand the start of a session. */
const version = () => encodeEvent(0, (pbf) => pbf.writeStringField(3, 'brain.Event:2'));

const SESSION_START = 1;

/** Tells readers to forget what was written, before an interruption, for this step and later ones. */
const sessionStart = (step: number) =>
  encodeEvent(step, (pbf) =>
    pbf.writeMessage(7, (_: undefined, session: PbfWriter) => session.writeVarintField(1, SESSION_START), undefined),
  );

const summary = (step: number, scalars: Scalars) =>
  encodeEvent(step, (pbf) => {
    const writeValue = ([tag, value]: [string, number], message: PbfWriter): void => {
      message.writeStringField(1, tag);
      message.writeFloatField(2, value);
    };
    pbf.writeMessage(
      5,
      (values: Scalars, message: PbfWriter) => {
        for (const entry of values) message.writeMessage(1, writeValue, entry);
      },
      scalars,
    );
  });

/** CRC-32C, rotated and shifted so that sums of data with sums in it stay apart. */
function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c.buf(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** Length, its checksum, the data, their checksum; little-endian. */
function frame(data: Uint8Array): Buffer {
  const record = Buffer.alloc(16 + data.length);
  record.writeBigUInt64LE(BigInt(data.length));
  record.writeUInt32LE(maskedCrc(record.subarray(0, 8)), 8);
  record.set(data, 12);
  record.writeUInt32LE(maskedCrc(data), 12 + data.length);
  return record;
}

let files = 0;

/** One event file; it is made with the first scalars. */
export class EventFile {
  readonly path: string;
  readonly #firstStep: number;
  #begun = false;

  /** @param firstStep Step from which on this file is in force. */
  constructor(folder: string, firstStep: number) {
    files += 1;
    const time = String(Math.floor(Date.now() / 1000)).padStart(10, '0');
    this.path = join(folder, `events.out.tfevents.${time}.${hostname()}.${process.pid}.${files}`);
    this.#firstStep = firstStep;
  }

  /** Appends scalars of a step. @throws `ERR_FLATMIN_PATH` when the file cannot be written. */
  async add(step: number, scalars: Scalars): Promise<void> {
    if (scalars.size === 0) return;
    const head = this.#begun ? [] : [version(), sessionStart(this.#firstStep)];
    try {
      if (!this.#begun) await mkdir(dirname(this.path), { recursive: true });
      await appendFile(this.path, Buffer.concat([...head, summary(step, scalars)].map(frame)));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new FlatminError('ERR_FLATMIN_PATH', `cannot write the TensorBoard file ${this.path}: ${reason}`, error);
    }
    this.#begun = true;
  }
}
