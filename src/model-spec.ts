// The spec of a model: what it is made of, as plain data. A saved model carries it, and the native side builds the model from it.

import { FlatminError } from './errors.js';
import { type InputShape, type Layer, layerListSchema, type Normalization } from './options/model.js';
import { parseOptions } from './options/parse.js';

/** A model as plain data: what a saved model's metadata holds. */
export interface ModelSpec {
  format: 1;
  name: string;
  /** [channels, height, width] */
  inputShape: InputShape;
  numClasses: number;
  layers: Layer[];
  classNames?: string[] | null | undefined;
  normalization?: Normalization | null | undefined;
}

/** What `Model.sequential` was told besides its layers. */
interface Described {
  name: string;
  inputShape: InputShape;
  numClasses?: number | undefined;
  classNames?: string[] | undefined;
  normalization?: Normalization | undefined;
}

/** The spec of layers in order; the number of classes comes from options, class names or the last linear layer. */
export function sequentialSpec(layers: readonly Layer[], { numClasses, ...rest }: Described): ModelSpec {
  const checked = parseOptions(layerListSchema, layers, 'Model.sequential layers');
  const classes = numClasses ?? rest.classNames?.length ?? lastOutFeatures(checked);
  if (classes !== undefined) return { format: 1, ...rest, numClasses: classes, layers: checked };
  throw new FlatminError(
    'ERR_FLATMIN_OPTION',
    'Model.sequential: cannot tell the number of classes; give numClasses or classNames',
  );
}

/** Size of the last linear layer, which gives the logits. */
function lastOutFeatures(layers: readonly Layer[]): number | undefined {
  for (const layer of layers.toReversed()) {
    if (layer.type === 'linear') return layer.outFeatures;
    if (layer.type === 'sequential') return lastOutFeatures(layer.layers);
  }
  return undefined;
}
