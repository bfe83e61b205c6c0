// `flatmin landscape`: the loss around a trained model, between two of them, or below the path of a run: data and pictures.
import { mkdir } from 'node:fs/promises';
import { dirname, extname } from 'node:path';
import { z } from 'zod';
import { interpolation, surface, trajectory } from '../../analysis/index.js';
import type { Landscape } from '../../figures/landscape.js';
import { Model } from '../../index.js';
import { path } from '../../options/fields.js';
import { interpolationSchema, surfaceSchema, trajectorySchema } from '../../options/index.js';
import { writeWhole } from '../../write.js';
import { type Context, defineCommand } from '../command.js';
import { UsageError } from '../failure.js';
import { measuredFields, observe, openMeasured, openMeasuredImages } from '../measured.js';
import { findKeptWeights } from '../training.js';
import { findWeights, openModel } from '../weights.js';

const schema = z.strictObject({
  ...measuredFields,
  to: path
    .optional()
    .describe('Weights at the other end of a line: run folder, checkpoint folder or .safetensors file'),
  trajectory: path
    .optional()
    .describe('Run folder of train --keep-weights, whose path is shown in the plane that shows most of it'),
  range: z
    .array(z.number())
    .length(2)
    .optional()
    .describe('Ends of the axes (default: -0.5,1.5 for a line, where 1 is --to; -1,1 for a surface)'),
  points: z.int().min(2).optional().describe('Points of an axis (default: 25 for a line, 21 for a surface)'),
  margin: trajectorySchema.shape.margin,
  seed: surfaceSchema.shape.seed,
  batchSize: interpolationSchema.shape.batchSize,
  limit: interpolationSchema.shape.limit,
  out: path.optional().describe('File that the data is written to as JSON; drawn as SVG and PNG beside it'),
});

type Options = z.output<typeof schema>;

export const landscapeCommand = defineCommand({
  name: 'landscape',
  summary: 'compute the loss around a model, between two models, or below the path of a run',
  details: `Without --to and --trajectory it is the loss over two random directions, normalised filter by filter. The data is JSON, on stdout
with --json and in the file of --out, beside which it is drawn as SVG and PNG.

Examples:
  flatmin landscape --weights runs/asam --out surface.json
  flatmin landscape --weights runs/sgd --to runs/asam --out line.json
  flatmin train --optimizer asam --keep-weights --run-dir runs/path
  flatmin landscape --trajectory runs/path --out path.json`,
  schema,
  run: landscape,
});

async function landscape(options: Options, context: Context): Promise<void> {
  const { output } = context;
  if (options.to !== undefined && options.trajectory !== undefined)
    throw new UsageError('--to and --trajectory: one of them at a time');
  const found = await (options.trajectory === undefined ? ofWeights(options, context) : ofRun(options, context));
  if (found === undefined) return;
  const { data, split, out } = options;
  const document = { data, split, ...found };
  output.document(document);
  if (out !== undefined) {
    await mkdir(dirname(out), { recursive: true });
    await writeWhole(out, `${JSON.stringify(document)}\n`);
    // Loaded only when needed: the plotting library would double the start of every command.
    const { drawLandscape, writePictures } = await import('../../figures/index.js');
    const { svg, png } = await writePictures(drawLandscape(found), out.slice(0, out.length - extname(out).length));
    output.text(`${out}, ${svg}, ${png}`);
  }
  for (const line of textOf(found)) output.text(line);
}

/** Keeps what is set, so that each kind has its own defaults. */
const given = ({ range, points, batchSize, limit }: Options) => ({
  ...(range !== undefined && { range: range as [number, number] }),
  ...(points !== undefined && { points }),
  batchSize,
  ...(limit !== undefined && { limit }),
});

async function ofWeights(options: Options, context: Context): Promise<Landscape | undefined> {
  const end = options.to === undefined ? undefined : findWeights({ ...options, weights: options.to });
  const { model: opened, dataset } = await openMeasured(options, context);
  using model = opened;
  if (end === undefined) {
    const settings = { ...given(options), seed: options.seed };
    const found = await observe(context, 'surface', (control) => surface(model, dataset, { ...settings, ...control }));
    return found && { kind: 'surface', ...found };
  }
  using other = await openModel(end, dataset, context.output);
  const found = await observe(context, 'line', (control) =>
    interpolation(model, other, dataset, { ...given(options), ...control }),
  );
  return found && { kind: 'interpolation', ...found };
}

async function ofRun(options: Options, context: Context): Promise<Landscape | undefined> {
  const { trajectory: runDir = '', weights, range, margin } = options;
  const files = findKeptWeights(runDir);
  const last = files.at(-1);
  if (last === undefined || files.length < 2)
    throw new UsageError(
      `--trajectory ${runDir}: found ${files.length} kept weights, expected two epochs or more of a run with train --keep-weights`,
    );
  if (weights !== undefined || range !== undefined)
    throw new UsageError(
      '--trajectory: --weights and --range do not apply; the path ends at its last epoch and sets the range',
    );
  using model = await Model.load(last, options.dtype === undefined ? {} : { dtype: options.dtype });
  const dataset = await openMeasuredImages(options, model.inputShape[1]);
  const found = await observe(context, 'path', (control) =>
    trajectory(model, files, dataset, { ...given(options), margin, ...control }),
  );
  return found && { kind: 'trajectory', ...found };
}

const known = (values: readonly (number | null)[]) => values.filter((value) => value !== null);
const show = (value: number) => value.toPrecision(4);

function textOf(found: Landscape): string[] {
  if (found.kind === 'interpolation') {
    const losses = known(found.loss);
    return [
      `line of ${found.t.length} points, ${found.count} images, distance ${show(found.distance)}`,
      `loss ${show(found.loss[nearest(found.t, 0)] ?? Number.NaN)} at t = 0, ${show(found.loss[nearest(found.t, 1)] ?? Number.NaN)} at t = 1, highest ${show(Math.max(...losses))}`,
    ];
  }
  const over = found.kind === 'surface' ? found : found.surface;
  const losses = known(over?.loss.flat() ?? []);
  const explained = found.kind === 'trajectory' ? found.explained : undefined;
  return [
    ...(explained
      ? [
          `path of ${found.kind === 'trajectory' ? found.path.length : 0} checkpoints; its axes show ${explained.map((share) => `${(100 * share).toFixed(1)} %`).join(' and ')} of it`,
        ]
      : []),
    ...(over
      ? [
          `surface of ${over.x.length} by ${over.y.length} points, ${over.count} images: loss ${show(Math.min(...losses))} to ${show(Math.max(...losses))}`,
        ]
      : []),
  ];
}

/** Where the axis comes nearest to a value. */
const nearest = (axis: readonly number[], value: number) =>
  axis.reduce((best, each, index) => (Math.abs(each - value) < Math.abs((axis[best] ?? 0) - value) ? index : best), 0);
