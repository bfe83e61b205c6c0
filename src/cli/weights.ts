// Finds and opens the weights that a command was given: a run folder, a checkpoint folder or a safetensors file.
// Files of other programs carry no spec, so for them the model's name and the normalisation come from elsewhere, and it is said which.
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Dataset, FlatminError, Model, models, type Normalization } from '../index.js';
import type { ModelDtype } from '../options/fields.js';
import { zooOptionsFor } from './data.js';
import { UsageError } from './failure.js';
import type { Output } from './output.js';

/** What the widely used PyTorch weights of CIFAR ResNets were trained with, and so the default for files without a spec. */
const IMAGENET: Normalization = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/** The safetensors file behind a path: the file itself, or the best (else the last) checkpoint of a folder. */
export function weightsFile(path: string): string {
  if (!existsSync(path)) {
    throw new FlatminError(
      'ERR_FLATMIN_PATH',
      `${path}: no such file or folder; expected a run folder, a checkpoint folder or a .safetensors file`,
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

/** Whether a safetensors file carries flatmin's own spec. */
function hasSpec(path: string): boolean {
  const file = openSync(path, 'r');
  try {
    const head = Buffer.alloc(8);
    if (readSync(file, head, 0, 8, 0) < 8) return false;
    const length = Number(head.readBigUInt64LE());
    if (length > statSync(path).size) return false;
    const header = Buffer.alloc(length);
    readSync(file, header, 0, length, 8);
    const parsed: unknown = JSON.parse(header.toString('utf8'));
    return (parsed as { __metadata__?: Record<string, unknown> } | null)?.__metadata__?.flatmin !== undefined;
  } catch (error) {
    // Not a safetensors header: the reader behind Model.load says what is wrong with the file.
    if (error instanceof SyntaxError || error instanceof RangeError) return false;
    throw error;
  } finally {
    closeSync(file);
  }
}

interface WeightsOptions {
  readonly model?: string | undefined;
  readonly weights?: string | undefined;
  readonly mean?: readonly number[] | undefined;
  readonly std?: readonly number[] | undefined;
  readonly dtype?: ModelDtype | undefined;
}

/** Weights that were found, before anything is loaded. */
export interface FoundWeights {
  readonly file: string;
  /** Name of the model that the user gave; always there when the file has no spec. */
  readonly model: string | undefined;
  readonly hasSpec: boolean;
  readonly normalization: Normalization | undefined;
  readonly dtype: ModelDtype | undefined;
}

/** Finds the weights that the options name. @throws {@link UsageError} when something is missing to open them. */
export function findWeights({ model, weights, mean, std, dtype }: WeightsOptions): FoundWeights {
  if (weights === undefined) {
    throw new UsageError('--weights is missing: a run folder, a checkpoint folder or a .safetensors file');
  }
  if ((mean === undefined) !== (std === undefined)) {
    throw new UsageError('--mean and --std belong together: one number a channel each');
  }
  const file = weightsFile(weights);
  const carriesSpec = hasSpec(file);
  if (!carriesSpec && model === undefined) {
    throw new UsageError(
      `${file} does not say which model it belongs to; name it with --model (flatmin models lists them)`,
    );
  }
  const normalization = mean !== undefined && std !== undefined ? { mean: [...mean], std: [...std] } : undefined;
  return { file, model, hasSpec: carriesSpec, normalization, dtype };
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
  const { normalization, source } = foreignNormalization(found, dataset);
  const model = models.create(found.model ?? '', {
    ...(dataset && zooOptionsFor(dataset)),
    ...(found.dtype && { dtype: found.dtype }),
    normalization,
  });
  await model.loadWeights(found.file);
  output.note(`normalisation: mean ${normalization.mean.join(' ')}, std ${normalization.std.join(' ')} (${source})`);
  return model;
}

function foreignNormalization({ normalization }: FoundWeights, dataset: Dataset | undefined) {
  if (normalization !== undefined) return { normalization, source: 'as given' };
  if (dataset !== undefined && dataset.shape[2] !== 3) {
    return { normalization: dataset.normalization, source: "the data set's; --mean and --std set another" };
  }
  return {
    normalization: IMAGENET,
    source: "ImageNet's, as is usual for PyTorch's CIFAR ResNets; --mean and --std set another",
  };
}
