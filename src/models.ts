// The models that come with flatmin, by name. Their specs are built natively, so the command line and other languages share them.

import { call } from './call.js';
import { FlatminError } from './errors.js';
import { Model } from './model.js';
import type { ModelSpec } from './model-spec.js';
import { loadNative } from './native/index.js';
import { type ZooOptions, zooSchema } from './options/model.js';
import { parseOptions, suggestion } from './options/parse.js';

/** Names of all models, in the order of their size within a family. */
export function names(): string[] {
  return call(() => loadNative().zooNames());
}

/** The model of that name, with fresh weights. */
export function create(name: string, options: ZooOptions = {}): Model {
  const known = names();
  if (!known.includes(name)) {
    throw new FlatminError(
      'ERR_FLATMIN_NAME',
      `Unknown model '${name}'${suggestion(String(name), known)} (models: ${known.join(', ')})`,
    );
  }
  const { dtype, seed, classNames, normalization, ...shape } = parseOptions(zooSchema, options, `models.${name}`);
  const numClasses = shape.numClasses ?? classNames?.length;
  const zooOptions = { ...(numClasses && { numClasses }), ...(shape.inputShape && { inputShape: shape.inputShape }) };
  const spec = call(() => loadNative().zooSpec(name, zooOptions)) as ModelSpec;
  return Model.fromSpec(
    { ...spec, ...(classNames && { classNames }), ...(normalization && { normalization }) },
    { dtype, seed },
  );
}

/** ResNet-20 for CIFAR (He et al. 2016, section 4.2), option-A shortcuts; 0.27 M parameters. */
export const resnet20 = (options?: ZooOptions): Model => create('resnet20', options);

/** ResNet-32 for CIFAR; 0.46 M parameters. */
export const resnet32 = (options?: ZooOptions): Model => create('resnet32', options);

/** ResNet-44 for CIFAR; 0.66 M parameters. */
export const resnet44 = (options?: ZooOptions): Model => create('resnet44', options);

/** ResNet-56 for CIFAR; 0.85 M parameters. */
export const resnet56 = (options?: ZooOptions): Model => create('resnet56', options);

/** ResNet-110 for CIFAR; 1.7 M parameters. */
export const resnet110 = (options?: ZooOptions): Model => create('resnet110', options);

/** Four 3x3 convolutions with batch norm for 8x8 images such as the digits; trains in seconds. */
export const demo = (options?: ZooOptions): Model => create('demo', options);
