// The all-layer margin: how far an image is from a wrong answer when all layers may err a little.

import type { DatasetSource } from '../dataset.js';
import type { Model } from '../model.js';
import { type AllLayerMarginOptions, allLayerMarginSchema } from '../options/analysis.js';
import { dataOf, type MeasureControl, measure } from './measure.js';

/** Margins of all images. */
export interface AllLayerMargins {
  /** Images. */
  count: number;
  /** Layers that are perturbed. */
  layers: number;
  /** In the order of the images: 0 for one that is misclassified as it is, null where none was found. */
  margins: (number | null)[];
  /** Over the margins that were found. */
  mean: number | null;
  median: number | null;
  /** Images misclassified as they are. */
  misclassified: number;
  /** Images without a margin. */
  notFound: number;
}

/**
 * The smallest norm2(delta) for which h_i = f_i(h_(i-1)) + delta_i norm2(h_(i-1)) ends in a wrong answer (Wei and Ma 2020), for each
 * image. What is found is an upper bound of it. A layer begins with each convolution, linear layer or residual block.
 */
export function allLayerMargin(
  model: Model,
  dataset: DatasetSource,
  options: AllLayerMarginOptions & MeasureControl = {},
): Promise<AllLayerMargins> {
  return measure('allLayerMargin', { model, dataset, options }, allLayerMarginSchema, async (analysis, subject) => {
    const settings = { steps: subject.options.steps, data: dataOf(subject.options) };
    return (await analysis.margins(subject.model, subject.dataset, settings)) as AllLayerMargins;
  });
}
