// The table that `model.summary()` gives: one row per layer, with shapes, parameters and costs.

/** One layer of a model. */
export interface LayerSummary {
  name: string;
  kind: string;
  /** Shape of the output of one image, without the batch. */
  outputShape: number[];
  parameters: number;
  /** Multiply-adds of one image's forward pass: those of convolutions, linear maps and attention. */
  macs: number;
  /** Numbers that one image's forward pass leaves in memory for the backward pass. */
  kept: number;
}

/** @internal What the native side tells of a model. */
export interface Summarized {
  layers: LayerSummary[];
  parameters: number;
  buffers: number;
  macs: number;
  /** Bytes of one number of an activation. */
  activationSize: number;
}

const COLUMNS = ['layer', 'kind', 'output', 'parameters', 'multiply-adds'] as const;
const FIRST_NUMBER = 3;

/** What a model is made of. As a string it is a table. */
export class ModelSummary {
  readonly layers: LayerSummary[];
  /** Trainable numbers. */
  readonly parameters: number;
  /** Numbers that are kept but not trained (running statistics). */
  readonly buffers: number;
  /** Multiply-adds of one image's forward pass. */
  readonly macs: number;
  readonly #activationSize: number;

  /** @internal */
  constructor(summary: Summarized) {
    this.layers = summary.layers;
    this.parameters = summary.parameters;
    this.buffers = summary.buffers;
    this.macs = summary.macs;
    this.#activationSize = summary.activationSize;
  }

  /**
   * Estimated bytes that the forward pass of so many images leaves in memory for the backward pass. Scratch memory of single
   * operations, weights, gradients and the optimizer's state come on top.
   */
  activationBytes(batchSize: number): number {
    const numbers = this.layers.reduce((sum, layer) => sum + layer.kept, 0);
    return batchSize * numbers * this.#activationSize;
  }

  toString(): string {
    const number = (value: number): string => value.toLocaleString('en');
    const rows = [
      COLUMNS,
      ...this.layers.map((layer) => [
        layer.name,
        layer.kind,
        layer.outputShape.join(' x '),
        number(layer.parameters),
        number(layer.macs),
      ]),
    ];
    const widths = COLUMNS.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
    const pad = (cell: string, column: number): string =>
      column < FIRST_NUMBER ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0);
    const lines = rows.map((row) => row.map(pad).join('  '));
    const megabytes = (this.activationBytes(1) / 1e6).toLocaleString('en', { maximumFractionDigits: 1 });
    const totals = [
      `${number(this.parameters)} parameters, ${number(this.buffers)} buffered numbers`,
      `${number(this.macs)} multiply-adds an image, about ${megabytes} MB of activations an image in training`,
    ];
    return [...lines, ...totals].join('\n');
  }
}
