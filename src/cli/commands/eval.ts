// `flatmin eval`: loss and accuracy of a trained model on a data set.
import { z } from 'zod';
import { evaluateSchema } from '../../options/index.js';
import { defineCommand } from '../command.js';
import { computeDevice, dataFields } from '../fields.js';
import { openMeasured } from '../measured.js';
import { weightsFields } from '../weights.js';

const schema = z.strictObject({
  ...weightsFields,
  device: computeDevice,
  ...dataFields,
  split: z.enum(['test', 'train']).default('test').describe('Part of the data set'),
  batchSize: evaluateSchema.shape.batchSize,
  limit: evaluateSchema.shape.limit,
  mirror: evaluateSchema.shape.mirror,
});

export const evalCommand = defineCommand({
  name: 'eval',
  summary: 'measure loss and accuracy of a trained model',
  details: `The normalisation is the one that lies in the weights file. A file without one is taken to be trained with ImageNet's
(mean .485 .456 .406, std .229 .224 .225), as the common PyTorch weights of the CIFAR ResNets are; which one was used is said on stderr.

Examples:
  flatmin eval --weights runs/digits
  flatmin eval --model resnet20 --weights resnet20.safetensors --data cifar10 --data-dir cifar --json
  flatmin eval --model resnet20 --weights checkpoint.pth --key ema_state_dict --data cifar10 --data-dir cifar`,
  schema,
  async run(options, context) {
    const { model: opened, dataset } = await openMeasured(options, context);
    using model = opened;
    const { output } = context;
    const { batchSize, limit, mirror } = options;
    const { count, loss, accuracy, top5 } = await model.evaluate(dataset, {
      ...{ batchSize, mirror },
      ...(limit !== undefined && { limit }),
    });
    output.document({ model: model.name, data: options.data, count, loss, accuracy, top5: top5 ?? null });
    output.text(`${model.name} on ${options.data}, ${options.split} split, ${count} images`);
    output.text(
      `accuracy ${(100 * accuracy).toFixed(2)} %  loss ${loss.toFixed(4)}${top5 === undefined ? '' : `  top-5 ${(100 * top5).toFixed(2)} %`}`,
    );
  },
});
