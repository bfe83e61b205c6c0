// `flatmin data`: brings data sets, looks at them, packs them into shards, checks the shards, shows augmented images.
import { z } from 'zod';
import { type DownloadName, downloadNames } from '../../download.js';
import { datasets, type JobProgress } from '../../index.js';
import { downloadSchema, jobSchema, packSchema, previewFields } from '../../options/index.js';
import { suggestion } from '../../options/parse.js';
import { type Context, defineCommand } from '../command.js';
import { openSplit } from '../data.js';
import { EXIT, UsageError } from '../failure.js';
import { augmentOptions, dataFields, imageAugmentFields, sourceFields } from '../fields.js';
import { onInterrupt } from '../interrupt.js';
import type { Output } from '../output.js';
import { textTable } from '../table.js';

const split = z.enum(['train', 'test']).default('train').describe('Part of the data set');

const isName = (name: string): name is DownloadName => (downloadNames as readonly string[]).includes(name);

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;

export const downloadCommand = defineCommand({
  name: 'data download',
  summary: 'download a data set and check its sum',
  operands: [
    { name: '<name>', description: `${downloadNames.join(', ')}; imagenet tells how to get it by hand` },
    { name: '<folder>', description: 'where its files go' },
  ],
  schema: downloadSchema,
  async run(options, context) {
    const { output, operands } = context;
    const [name = '', folder = ''] = operands;
    if (!isName(name) && name !== 'imagenet')
      throw new UsageError(
        `unknown data set '${name}'${suggestion(name, downloadNames)} (one of ${downloadNames.join(', ')})`,
      );
    await interruptible(context, async (signal) => {
      const onProgress = ({ receivedBytes, totalBytes }: { receivedBytes: number; totalBytes: number | null }) =>
        output.progress(`${name}  ${megabytes(receivedBytes)}${totalBytes ? ` of ${megabytes(totalBytes)}` : ''}`);
      const path = await datasets.download(name as DownloadName, folder, { ...options, signal, onProgress });
      output.document({ data: name, path });
      output.text(`${name} lies in ${path}`);
    });
  },
});

export const inspectCommand = defineCommand({
  name: 'data inspect',
  summary: 'decode every image: counts, sizes, classes, broken files, mean and deviation',
  details: `Broken files are listed and no failure; the exit code tells only whether the data set could be read.

Examples:
  flatmin data inspect --data imagefolder --data-dir imagenet --json
  flatmin data inspect --data cifar10 --data-dir cifar --split test`,
  schema: z.strictObject({ ...dataFields, split, ...jobSchema.shape }),
  async run(options, context) {
    const { output } = context;
    const dataset = await openSplit(options, options.split);
    const { threads } = options;
    await interruptible(context, async (signal) => {
      const found = await datasets.inspect(dataset, { threads, signal, onProgress: showing(output, 'images') });
      output.document(found);
      for (const line of inspectionLines(found)) output.text(line);
    });
  },
});

export const packCommand = defineCommand({
  name: 'data pack',
  summary: 'pack a set of image files into WebDataset shards with checksums',
  details: `Shards are tar files that Python's webdataset and tarfile read, too. A pack that was interrupted goes on when it is
called again; 'flatmin data verify' checks it.

Examples:
  flatmin data pack --data imagefolder --data-dir imagenet --split train shards/train --resize 500
  flatmin train --data webdataset --data-dir shards`,
  operands: [{ name: '<folder>', description: 'where the shards go' }],
  schema: z.strictObject({ ...sourceFields, split, ...packSchema.shape }),
  async run(options, context) {
    const { output, operands } = context;
    const [folder = ''] = operands;
    const { data, dataDir, split, ...packing } = options;
    const dataset = await openSplit({ data, dataDir }, split);
    await interruptible(context, async (signal) => {
      const onProgress = showing(output, 'images');
      const manifest = await datasets.pack(dataset, folder, { ...packing, signal, onProgress });
      const { shards, leftOut } = manifest;
      const bytes = shards.reduce((total, shard) => total + shard.bytes, 0);
      output.document({ data, path: folder, ...manifest });
      for (const name of leftOut) output.note(`left out: ${name}`);
      output.text(
        `${manifest.images - leftOut.length} images in ${shards.length} shards, ${megabytes(bytes)}, in ${folder}`,
      );
    });
  },
});

export const verifyCommand = defineCommand({
  name: 'data verify',
  summary: 'check packed shards: sizes, SHA-256 sums, and that every image decodes',
  operands: [{ name: '<folder>', description: "what 'flatmin data pack' wrote" }],
  schema: jobSchema,
  async run({ threads }, context) {
    const { output, operands, exit } = context;
    const [folder = ''] = operands;
    await interruptible(context, async (signal) => {
      const found = await datasets.verify(folder, { threads, signal, onProgress: showing(output, 'shards') });
      output.document(found);
      for (const fault of found.faults) output.text(fault);
      output.text(`${found.images} images in ${found.shards} shards, ${found.faultCount} faults`);
      if (found.faultCount > 0) exit(EXIT.failure);
    });
  },
});

export const previewCommand = defineCommand({
  name: 'data preview',
  summary: 'draw augmented images into a contact sheet (PNG)',
  operands: [{ name: '<file>', description: 'the PNG file to write' }],
  schema: z.strictObject({ ...dataFields, split, ...imageAugmentFields, ...previewFields }),
  async run(options, { output, operands }) {
    const [file = ''] = operands;
    const { rows, columns, seed, epoch } = options;
    const dataset = await openSplit(options, options.split);
    const augment = augmentOptions(options);
    const shown = await datasets.preview(dataset, file, { rows, columns, seed, epoch, augment });
    const names = dataset.classNames;
    output.document({ path: file, ...shown, classNames: shown.labels.map((label) => names[label]) });
    output.text(`${shown.labels.length} images in ${shown.rows} rows of ${shown.columns}, in ${file}`);
  },
});

/** A live line of a job. */
const showing =
  (output: Output, what: string) =>
  ({ done, total }: JobProgress) =>
    output.progress(`${done} of ${total} ${what}`);

/** Runs work that Ctrl-C ends early, with code 130. */
async function interruptible({ exit }: Context, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController();
  using interrupt = onInterrupt(() => controller.abort());
  try {
    await work(controller.signal);
  } catch (error) {
    if (!interrupt.requested) throw error;
    exit(EXIT.interrupted);
  }
}

const decimals = (values: readonly number[]) => values.map((value) => value.toFixed(4)).join(', ');

/** Classes of long lists are not all printed; --json has them. */
const CLASSES_SHOWN = 20;
const BROKEN_SHOWN = 20;

function* inspectionLines(found: datasets.Inspection): Generator<string> {
  const { name, count, shape, classes, bytes, formats, width, height, measured, broken, brokenCount } = found;
  const counts = classes.map((entry) => entry.count);
  yield `${name}: ${count} images, ${classes.length} classes of ${Math.min(...counts)} to ${Math.max(...counts)} images`;
  if (width !== null && height !== null) {
    const kinds = Object.entries(formats).map(([format, files]) => `${files} ${format}`);
    yield `files: ${kinds.join(', ')}, ${megabytes(bytes)}`;
    yield `width ${width.min} to ${width.max}, median ${width.median}; height ${height.min} to ${height.max}, median ${height.median}`;
  }
  yield `as batches have them: ${shape.join(' x ')} (height x width x channels)`;
  yield `mean ${decimals(measured.mean)}; deviation ${decimals(measured.std)}`;
  const rows = classes.slice(0, CLASSES_SHOWN).map((entry) => [String(entry.label), entry.name, String(entry.count)]);
  yield textTable(['label', 'class', 'images'], rows);
  if (classes.length > CLASSES_SHOWN) yield `... and ${classes.length - CLASSES_SHOWN} more classes`;
  yield `${brokenCount} broken files`;
  yield* broken.slice(0, BROKEN_SHOWN);
  if (brokenCount > BROKEN_SHOWN) yield `... and ${brokenCount - BROKEN_SHOWN} more`;
}
