// `flatmin models`: the models that come with flatmin, and what one of them is made of and costs.
import { z } from 'zod';
import { models } from '../../index.js';
import { positiveInteger } from '../../options/fields.js';
import { zooSchema } from '../../options/model.js';
import { defineCommand } from '../command.js';
import type { Output } from '../output.js';
import { textTable } from '../table.js';

const { device: _device, seed: _seed, classNames: _names, normalization: _n, ...architecture } = zooSchema.shape;

const schema = z.strictObject({
  batchSize: positiveInteger.default(128).describe('Images of a batch, for the memory it takes'),
  ...architecture,
});

const number = (value: number): string => value.toLocaleString('en');

export const modelsCommand = defineCommand({
  name: 'models',
  summary: 'list the models that come with flatmin, or the layers and costs of one',
  operands: [{ name: '[name]', description: 'the model to tell about' }],
  details: `Examples:
  flatmin models
  flatmin models wrn28_10 --num-classes 100 --batch-size 256 --dtype bfloat16`,
  schema,
  async run(options, { output, operands: [name] }) {
    if (name === undefined) list(output);
    else tell(name, options, output);
  },
});

function list(output: Output): void {
  const rows = models.names().map((name) => ({ ...models.spec(name), summary: models.summary(name) }));
  output.document(rows.map(({ name, summary, inputShape }) => ({ name, parameters: summary.parameters, inputShape })));
  output.text(
    textTable(
      ['model', 'parameters', 'multiply-adds', 'input (channels x height x width)', 'classes'],
      rows.map(({ name, summary, inputShape, numClasses }) => [
        name,
        number(summary.parameters),
        number(summary.macs),
        inputShape.join(' x '),
        number(numClasses),
      ]),
    ),
  );
}

function tell(name: string, { batchSize, ...options }: z.output<typeof schema>, output: Output): void {
  const summary = models.summary(name, options);
  const { inputShape, numClasses } = models.spec(name, options);
  const activations = summary.activationBytes(batchSize);
  // Master and working weights and a gradient, one number each.
  const weights = 3 * summary.parameters * (options.dtype === 'float64' ? 8 : 4);
  output.document({
    ...{ name, inputShape, numClasses },
    ...{ parameters: summary.parameters, buffers: summary.buffers, macs: summary.macs },
    memory: { batchSize, dtype: options.dtype, activations, weights },
    layers: summary.layers,
  });
  output.text(`${summary}`);
  const megabytes = (bytes: number): string => `${number(Math.round(bytes / 1e6))} MB`;
  output.text(
    `training with batches of ${number(batchSize)} in ${options.dtype}: about ${megabytes(activations)} for activations, ${megabytes(weights)} for weights and gradients; the optimizer's state and scratch memory come on top`,
  );
}
