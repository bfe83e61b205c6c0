// The table that `model.summary()` gives: one row per layer, with shapes and parameter counts.

/** One layer of a model. */
export interface LayerSummary {
  name: string;
  kind: string;
  /** Shape of the output of one image, without the batch. */
  outputShape: number[];
  parameters: number;
}

/** What a model is made of. As a string it is a table. */
export class ModelSummary {
  readonly layers: LayerSummary[];
  /** Trainable numbers. */
  readonly parameters: number;
  /** Numbers that are kept but not trained (running statistics). */
  readonly buffers: number;

  /** @internal */
  constructor(summary: { layers: LayerSummary[]; parameters: number; buffers: number }) {
    this.layers = summary.layers;
    this.parameters = summary.parameters;
    this.buffers = summary.buffers;
  }

  toString(): string {
    const rows = [
      ['layer', 'kind', 'output', 'parameters'],
      ...this.layers.map((layer) => [
        layer.name,
        layer.kind,
        layer.outputShape.join(' x '),
        layer.parameters.toLocaleString('en'),
      ]),
    ];
    const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
    const pad = (cell: string, column: number): string =>
      column === 3 ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0);
    const lines = rows.map((row) => row.map(pad).join('  '));
    const total = `${this.parameters.toLocaleString('en')} parameters, ${this.buffers.toLocaleString('en')} buffered numbers`;
    return [...lines, total].join('\n');
  }
}
