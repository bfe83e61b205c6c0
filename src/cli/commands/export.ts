// `flatmin export`: a trained model as a file for other programs.
import { statSync } from 'node:fs';
import { extname } from 'node:path';
import { z } from 'zod';
import { path } from '../../options/fields.js';
import { defineCommand } from '../command.js';
import { UsageError } from '../failure.js';
import { findWeights, openModel, weightsFields } from '../weights.js';

const schema = z.strictObject({
  ...weightsFields,
  out: path.optional().describe('File to write: .safetensors, .pt, .pth or .onnx'),
  format: z.enum(['safetensors', 'pt', 'onnx']).optional().describe("Format (default: what the file's ending says)"),
});

const ENDINGS = { safetensors: ['safetensors'], pt: ['pt', 'pth'], onnx: ['onnx'] };
type Format = keyof typeof ENDINGS;

/** The format of a file by its ending, which must be one of the wanted format where one is wanted. */
function formatOf(out: string, wanted: Format | undefined): Format {
  const ending = extname(out).slice(1).toLowerCase();
  const formats = wanted === undefined ? (Object.keys(ENDINGS) as Format[]) : [wanted];
  const format = formats.find((name) => ENDINGS[name].includes(ending));
  if (format !== undefined) return format;
  const endings = formats.flatMap((name) => ENDINGS[name]).map((name) => `.${name}`);
  throw new UsageError(`--out: expected a file that ends with ${endings.join(', ')}, found ${out}`);
}

export const exportCommand = defineCommand({
  name: 'export',
  summary: 'write a trained model for PyTorch or as ONNX',
  details: `PyTorch reads .pt and .pth by torch.load(file, weights_only=True) and .safetensors by safetensors.torch.load_file(file); names, shapes and
order are those of the PyTorch model of the same name. An .onnx file holds the net itself, for evaluation.

Examples:
  flatmin export --weights runs/asam --out resnet20.pt
  flatmin export --weights runs/asam --out resnet20.onnx`,
  schema,
  async run({ out, format: wanted, ...weights }, { output }) {
    if (out === undefined) throw new UsageError('--out is missing: a .safetensors, .pt, .pth or .onnx file');
    const format = formatOf(out, wanted);
    using model = await openModel(findWeights(weights), undefined, output);
    await (format === 'onnx' ? model.exportOnnx(out) : model.save(out));
    const { size } = statSync(out);
    output.document({ model: model.name, parameters: model.parameterCount, format, out, bytes: size });
    output.text(
      `${model.name}, ${model.parameterCount.toLocaleString('en')} parameters, ${size.toLocaleString('en')} bytes: ${out}`,
    );
  },
});
