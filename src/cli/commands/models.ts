// `flatmin models`: the models that come with flatmin.
import { z } from 'zod';
import { models } from '../../index.js';
import { defineCommand } from '../command.js';
import { textTable } from '../table.js';

export const modelsCommand = defineCommand({
  name: 'models',
  summary: 'list the models that come with flatmin',
  schema: z.strictObject({}),
  async run(_options, { output }) {
    const list = models.names().map((name) => {
      using model = models.create(name);
      return { name, parameters: model.parameterCount, inputShape: model.inputShape };
    });
    output.document(list);
    const rows = list.map(({ name, parameters, inputShape }) => [
      name,
      parameters.toLocaleString('en'),
      inputShape.join(' x '),
    ]);
    output.text(textTable(['model', 'parameters', 'input (channels x height x width)'], rows));
  },
});
