// `flatmin hessian`: the curvature of the loss of a trained model.
import { z } from 'zod';
import { type Hessian, hessian } from '../../analysis/index.js';
import { hessianSchema } from '../../options/index.js';
import { type Context, defineCommand } from '../command.js';
import { measuredFields, observe, openMeasured } from '../measured.js';
import { textTable } from '../table.js';

const { loss: _, vectors: __, ...measureFields } = hessianSchema.shape;

const schema = z.strictObject({ ...measuredFields, ...measureFields });

type Options = z.output<typeof schema>;

export const hessianCommand = defineCommand({
  name: 'hessian',
  summary: 'measure the curvature of the loss: largest eigenvalues, trace, spectral density',
  details: `Each product with the Hessian costs about four passes over the images; --limit takes the first ones only. --json prints the
spectral density as a curve, too.

Examples:
  flatmin hessian --weights runs/digits --top-k 5 --trace-probes 50
  flatmin hessian --weights runs/asam --data cifar10 --data-dir cifar --limit 1000 --density --json
  flatmin hessian --weights runs/asam --data cifar10 --data-dir cifar --limit 1000 --scale element`,
  schema,
  run: measure,
});

async function measure(options: Options, context: Context): Promise<void> {
  const { output } = context;
  const { model: opened, dataset } = await openMeasured(options, context);
  using model = opened;
  const settings = Object.fromEntries(Object.keys(measureFields).map((key) => [key, options[key as keyof Options]]));
  const found = await observe(context, 'hessian', (control) => hessian(model, dataset, { ...settings, ...control }));
  if (found === undefined) return;
  const { vectors, ...report } = found;
  const { data, split, scale } = options;
  output.document({ model: model.name, data, split, options: settings, ...report });
  const matrix = scale === 'none' ? 'Hessian' : `T_w H T_w, scale ${scale},`;
  output.text(
    `${model.name} on ${data}, ${split} split, ${found.count} images: ${matrix} of ${found.dimensions.toLocaleString('en')} numbers`,
  );
  for (const line of textOf(found)) output.text(line);
}

function textOf({ eigenvalues, smallest, converged, steps, trace, density }: Hessian): string[] {
  const rows = eigenvalues.map(({ value, residual }, index) => [String(index + 1), show(value), show(residual)]);
  return [
    ...(rows.length > 0 ? [`\n${textTable(['', 'eigenvalue', 'residual'], rows)}\n`] : []),
    ...(smallest === null ? [] : [`smallest found ${show(smallest.value)}, residual ${show(smallest.residual)}`]),
    ...(converged ? [] : [`not as exact as asked for after ${steps} steps: use more --iterations`]),
    ...(trace === null
      ? []
      : [
          `trace ${show(trace.value)} ± ${trace.standardError === null ? '?' : show(trace.standardError)} (${trace.probes} probes)`,
        ]),
    ...(density === null
      ? []
      : [`spectral density: trace ${show(density.trace)}, ${density.eigenvalues.length} points with --json`]),
  ];
}

const show = (value: number) => value.toPrecision(5);
