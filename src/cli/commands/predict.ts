// `flatmin predict`: the most likely classes of image files.
import { z } from 'zod';
import { positiveInteger } from '../../options/fields.js';
import { defineCommand } from '../command.js';
import { computeDevice } from '../fields.js';
import { findWeights, openModel, weightsFields } from '../weights.js';

const schema = z.strictObject({
  ...weightsFields,
  device: computeDevice,
  topK: positiveInteger.default(5).describe('Classes shown for each image'),
});

export const predictCommand = defineCommand({
  name: 'predict',
  summary: 'classify image files',
  operands: [{ name: '<images...>', description: 'PNG, JPEG or WebP files' }],
  details: `Example:
  flatmin predict cat.jpg --weights runs/cifar`,
  schema,
  async run(options, { output, operands }) {
    using model = await openModel(findWeights(options), undefined, output);
    const predictions = await model.predict(operands, { topK: Math.min(options.topK, model.numClasses) });
    const results = operands.map((image, index) => ({ image, predictions: predictions[index] ?? [] }));
    output.document(results);
    for (const { image, predictions: best } of results) {
      output.text(image);
      for (const { name, probability } of best)
        output.text(`  ${(100 * probability).toFixed(1).padStart(5)} %  ${name}`);
    }
  },
});
