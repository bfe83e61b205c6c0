// `flatmin export`: trained weights as a file for other programs.
import { statSync } from 'node:fs';
import { z } from 'zod';
import { path } from '../../options/fields.js';
import { defineCommand } from '../command.js';
import { UsageError } from '../failure.js';
import { findWeights, openModel } from '../weights.js';
import { weightsFields } from './eval.js';

const schema = z.strictObject({
  ...weightsFields,
  out: path.optional().describe('File to write; its ending says the format: .safetensors, .pt or .pth'),
});

const ENDINGS = /\.(safetensors|pt|pth)$/i;

export const exportCommand = defineCommand({
  name: 'export',
  summary: 'write trained weights for PyTorch',
  details: `PyTorch reads .pt and .pth by torch.load(file, weights_only=True) and .safetensors by safetensors.torch.load_file(file); names, shapes and
order are those of the PyTorch model of the same name.

Example:
  flatmin export --weights runs/asam --out resnet20.pt`,
  schema,
  async run({ out, ...weights }, { output }) {
    if (out === undefined || !ENDINGS.test(out))
      throw new UsageError(
        `--out: expected a file that ends with .safetensors, .pt or .pth, found ${out ?? 'nothing'}`,
      );
    using model = await openModel(findWeights(weights), undefined, output);
    await model.save(out);
    const { size } = statSync(out);
    output.document({ model: model.name, parameters: model.parameterCount, out, bytes: size });
    output.text(
      `${model.name}, ${model.parameterCount.toLocaleString('en')} parameters, ${size.toLocaleString('en')} bytes: ${out}`,
    );
  },
});
