// `flatmin sharpness`: how much the loss of a trained model rises within a ball around its weights.
import { z } from 'zod';
import {
  type PacBayesBound,
  pacBayesBound,
  type Sharpness,
  type SharpnessPoint,
  sharpness,
} from '../../analysis/index.js';
import { sharpnessSchema } from '../../options/index.js';
import { type Context, defineCommand } from '../command.js';
import { UsageError } from '../failure.js';
import { measuredFields, observe, openMeasured } from '../measured.js';
import { textTable } from '../table.js';

const { loss: _, ...measureFields } = sharpnessSchema.shape;

const schema = z.strictObject({
  ...measuredFields,
  ...measureFields,
  bound: z
    .boolean()
    .default(false)
    .describe("Print the PAC-Bayes bound of SAM's paper (with a scale: ASAM's) and its terms"),
  delta: z.number().gt(0).lt(1).default(0.05).describe('The bound holds with probability 1 - delta'),
});

type Options = z.output<typeof schema>;

export const sharpnessCommand = defineCommand({
  name: 'sharpness',
  summary: 'measure how sharp the minimum is that a model was trained to',
  details: `Several radii give a curve, with the accuracy at the worst point that was found for each. The ball is drawn in the metric of
--scale; --scale element with the default --eta 0 is the exactly scale-invariant measure.

Examples:
  flatmin sharpness --weights runs/digits --rho 0.05,0.1,0.2
  flatmin sharpness --weights runs/asam --data cifar10 --data-dir cifar --scale element --rho 0.5 --limit 2000
  flatmin sharpness --weights runs/asam --data cifar10 --data-dir cifar --method oneStep --m 128`,
  schema,
  run: measure,
});

async function measure(options: Options, context: Context): Promise<void> {
  const { output } = context;
  if (options.bound && (options.method === 'random' || options.m !== undefined || options.p !== 2))
    throw new UsageError('--bound needs the worst case over all images together: no --method random, no --m, --p 2');
  const { model: opened, dataset } = await openMeasured(options, context);
  using model = opened;
  const settings = Object.fromEntries(Object.keys(measureFields).map((key) => [key, options[key as keyof Options]]));
  const found = await observe(context, 'sharpness', (control) =>
    sharpness(model, dataset, { ...settings, ...control }),
  );
  if (found === undefined) return;
  const bounds = options.bound ? found.points.map((point) => boundOf(found, point, options)) : undefined;
  const { data, split } = options;
  output.document({ model: model.name, data, split, options: settings, ...found, ...(bounds && { bounds }) });
  output.text(`${model.name} on ${data}, ${split} split, ${found.count} images: ${lossAndAccuracy(found)}`);
  output.text(`\n${pointsTable(found.points)}\n`);
  output.text(`rise of the loss ${WORDS[options.method]}; deviation over ${found.points[0]?.spread.over}`);
  if (found.slope !== null) output.text(`to first order it is ${found.slope.toPrecision(4)} times rho`);
  for (const bound of bounds ?? []) output.text(`\n${boundText(bound)}`);
}

const WORDS = {
  ascent: 'at the worst point that the ascent found, a lower bound of the maximum',
  oneStep: 'at the point that is worst to first order',
  random: 'on average over random points',
};

const percent = (share: number) => `${(100 * share).toFixed(2)} %`;
const lossAndAccuracy = ({ loss, accuracy }: Sharpness) => `loss ${loss.toPrecision(4)}, accuracy ${percent(accuracy)}`;

const pointsTable = (points: readonly SharpnessPoint[]) =>
  textTable(
    ['rho', 'sharpness', 'deviation', 'loss', 'accuracy', 'norm'],
    points.map(({ rho, sharpness, loss, accuracy, norm, spread }) => [
      ...[String(rho), sharpness.toPrecision(5), spread.sd === null ? '-' : spread.sd.toPrecision(3)],
      ...[loss.toPrecision(5), percent(accuracy), norm.toPrecision(4)],
    ]),
  );

const boundOf = (found: Sharpness, point: SharpnessPoint, { scale, eta, delta }: Options) =>
  pacBayesBound(found, point, { delta, ...(scale !== 'none' && { eta }) });

function boundText({ rho, delta, value, terms, assumptions }: PacBayesBound): string {
  const { worstError, tail, divergence, confidence, complexity } = terms;
  return [
    `PAC-Bayes bound on the expected error at rho ${rho}, with probability ${1 - delta}: ${value.toPrecision(4)}`,
    `  ${worstError.toPrecision(4)}  (1 - 1/sqrt n) times the error at the worst point found`,
    `  ${tail.toPrecision(4)}  1/sqrt n`,
    `  ${complexity.toPrecision(4)}  sqrt((divergence ${divergence.toPrecision(4)} + confidence ${confidence.toPrecision(4)}) / (n - 1))`,
    ...assumptions.map((assumption) => `  assumes: ${assumption}`),
    ...(value >= 1 ? ['  It is 1 or more and so says nothing of this model alone.'] : []),
  ].join('\n');
}
