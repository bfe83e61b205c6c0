// `flatmin figures`: the pictures that explain sharpness-aware minimization, computed anew, with their numbers beside them.
import { z } from 'zod';
import { path } from '../../options/fields.js';
import { defineCommand } from '../command.js';

/** Names of the figures; loading what draws them takes too long for `--help`. */
const names = ['descent', 'sharp-and-flat', 'scale-invariance', 'trajectories', 'region', 'diagonal-network'] as const;

const schema = z.strictObject({
  out: path.default('figures').describe('Folder of the pictures'),
  only: z
    .array(z.enum(names))
    .min(1)
    .default([...names])
    .describe('Figures to draw'),
});

export const figuresCommand = defineCommand({
  name: 'figures',
  summary: 'draw the figures that explain sharpness-aware minimization',
  details: `Each figure is written as SVG, PNG and JSON, the numbers it was drawn from.

Examples:
  flatmin figures --out figures
  flatmin figures --only trajectories,region`,
  schema,
  async run({ out, only }, { output }) {
    const { figures, writeFigure } = await import('../../figures/index.js');
    const chosen = figures.filter(({ name }) => (only as readonly string[]).includes(name));
    const written = [];
    for (const figure of chosen) {
      output.progress(`drawing ${figure.name}`);
      const files = await writeFigure(figure, out);
      output.text(`${files.svg}\n  ${files.caption}`);
      written.push(files);
    }
    output.document(written);
  },
});
