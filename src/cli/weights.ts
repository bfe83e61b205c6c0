// Finds and opens the weights that a command was given: a run folder, a checkpoint folder, a safetensors file or one of PyTorch's.
// Files of other programs carry no spec, so for them the model's name and the normalisation come from elsewhere, and it is said which.
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { type Dataset, FlatminError, type LoadReport, Model, models, type Normalization } from '../index.js';
import { type ModelDtype, modelDtypes, path } from '../options/fields.js';
import { zooOptionsFor } from './data.js';
import { UsageError } from './failure.js';
import { withinFields } from './fields.js';
import type { Output } from './output.js';

/** What the widely used PyTorch weights of CIFAR ResNets were trained with, and so the default for files without a spec. */
const IMAGENET: Normalization = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/** The file of weights behind a path: the file itself, or the best (else the last) checkpoint of a folder. */
export function weightsFile(path: string): string {
  if (!existsSync(path)) {
    throw new FlatminError(
      'ERR_FLATMIN_PATH',
      `${path}: no such file or folder; expected a run folder, a checkpoint folder or a .safetensors, .pt or .pth file`,
    );
  }
  if (!statSync(path).isDirectory()) return path;
  const candidates = [
    'model.safetensors',
    'checkpoints/best/model.safetensors',
    'checkpoints/last/model.safetensors',
  ].map((name) => join(path, name));
  const found = candidates.find((candidate) => existsSync(candidate));
  if (found !== undefined) return found;
  throw new FlatminError(
    'ERR_FLATMIN_PATH',
    `${path}: found no model.safetensors in it or in its checkpoints/best and checkpoints/last`,
  );
}

/** Where the weights lie in their file. */
interface Within {
  readonly key?: string | undefined;
  readonly prefix?: string | undefined;
}

const within = ({ key, prefix }: Within) => ({
  ...(key !== undefined && { key }),
  ...(prefix !== undefined && { prefix }),
});

/** Which weights, and what is to be known of them where their file does not tell. */
export const weightsFields = {
  model: z.string().optional().describe('Name of the model, for weights that do not carry it'),
  weights: path.optional().describe('Run folder, checkpoint folder, .safetensors, .pt or .pth file'),
  ...withinFields,
  mean: z
    .array(z.number())
    .min(1)
    .optional()
    .describe('Mean of each channel, of pixels in [0, 1] (default: the one in the file)'),
  std: z.array(z.number().positive()).min(1).optional().describe('Standard deviation of each channel'),
  dtype: z.enum(modelDtypes).optional().describe('Number type to compute in (default: the type of the weights)'),
};

type WeightsOptions = z.output<z.ZodObject<typeof weightsFields>>;

/** Weights that were found, before anything is loaded. */
export interface FoundWeights {
  readonly file: string;
  /** Name of the model that the user gave; always there when the file has no spec. */
  readonly model: string | undefined;
  readonly hasSpec: boolean;
  /** Side of the images that the model was made for, where the file tells. */
  readonly size: number | undefined;
  readonly normalization: Normalization | undefined;
  readonly dtype: ModelDtype | undefined;
  readonly within: Within;
}

/** Finds the weights that the options name. @throws {@link UsageError} when something is missing to open them. */
export function findWeights({ model, weights, mean, std, dtype, ...place }: WeightsOptions): FoundWeights {
  if (weights === undefined) {
    throw new UsageError('--weights is missing: a run folder, a checkpoint folder or a .safetensors, .pt or .pth file');
  }
  if ((mean === undefined) !== (std === undefined)) {
    throw new UsageError('--mean and --std belong together: one number a channel each');
  }
  const file = weightsFile(weights);
  const spec = Model.specIn(file);
  if (spec === null && model === undefined) {
    throw new UsageError(
      `${file} does not say which model it belongs to; name it with --model (flatmin models lists them)`,
    );
  }
  const normalization = mean !== undefined && std !== undefined ? { mean: [...mean], std: [...std] } : undefined;
  const [hasSpec, size] = [spec !== null, spec?.inputShape[1]];
  return { file, model, hasSpec, size, normalization, dtype, within: within(place) };
}

/** Opens found weights as a model for `dataset`. What the file does not hold is told on stderr. */
export async function openModel(found: FoundWeights, dataset: Dataset | undefined, output: Output): Promise<Model> {
  if (!found.hasSpec) return openForeign(found, dataset, output);
  const model = await Model.load(found.file, { ...(found.dtype && { dtype: found.dtype }) });
  if (found.model !== undefined && found.model !== model.name) {
    throw new UsageError(`--model ${found.model}: ${found.file} holds a '${model.name}'; leave --model out`);
  }
  if (found.normalization !== undefined) model.normalization = found.normalization;
  return model;
}

async function openForeign(found: FoundWeights, dataset: Dataset | undefined, output: Output): Promise<Model> {
  const { normalization, source } = foreignNormalization(found.normalization, dataset);
  const model = models.create(found.model ?? '', {
    ...(dataset && zooOptionsFor(dataset)),
    ...(found.dtype && { dtype: found.dtype }),
    normalization,
  });
  await model.loadWeights(found.file, within(found.within));
  output.note(`normalisation: mean ${normalization.mean.join(' ')}, std ${normalization.std.join(' ')} (${source})`);
  return model;
}

function foreignNormalization(normalization: Normalization | undefined, dataset: Dataset | undefined) {
  if (normalization !== undefined) return { normalization, source: 'as given' };
  if (dataset !== undefined && dataset.shape[2] !== 3) {
    return { normalization: dataset.normalization, source: "the data set's; --mean and --std set another" };
  }
  return {
    normalization: IMAGENET,
    source: "ImageNet's, as is usual for PyTorch's CIFAR ResNets; --mean and --std set another",
  };
}

/** Weights that a training run starts from, before anything is loaded. */
export interface Pretrained {
  /** What their images went through. */
  readonly normalization: Normalization;
  /** Reads them into a model of the run. What has another shape there, such as a head for other classes, starts anew. */
  load(model: Model): Promise<LoadReport>;
}

/** Finds the weights that a run of `model` on `dataset` starts from. @throws {@link UsageError} if they are another model's. */
export function findPretrained(weights: string, model: string, dataset: Dataset, place: Within): Pretrained {
  const file = weightsFile(weights);
  const spec = Model.specIn(file);
  if (spec !== null && spec.name !== model)
    throw new UsageError(
      `--weights: ${file} holds a '${spec.name}', and the run trains a '${model}'; name it with --model`,
    );
  const own = spec?.normalization?.mean.length === dataset.shape[2] ? spec.normalization : undefined;
  return {
    normalization: own ?? foreignNormalization(undefined, dataset).normalization,
    load: (target) => target.loadWeights(file, { strict: false, ...within(place) }),
  };
}
