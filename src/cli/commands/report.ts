// `flatmin report`: one HTML page about runs that are done or still going, from what lies in their folders.
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { path } from '../../options/fields.js';
import { requireRunFolder } from '../../run-folder.js';
import { defineCommand } from '../command.js';
import { comparisonTable } from '../table.js';

const schema = z.strictObject({
  out: path.optional().describe('File of the page (default: report.html in the folder, or here for several)'),
  title: z.string().min(1).optional().describe('Title of the page (default: optimizers, model and data set)'),
});

export const reportCommand = defineCommand({
  name: 'report',
  summary: 'make one HTML page about training runs',
  operands: [{ name: '<runs...>', description: 'run folders, or folders of run folders' }],
  details: `The page needs no network and no other file. Runs whose settings are the same but for the seed are one group: its curves are
means with a band of one standard deviation.

Examples:
  flatmin report runs/asam
  flatmin report runs/sgd-* runs/sam-* --out comparison.html
  flatmin report runs/rho --title 'Which rho?'`,
  schema,
  async run({ out, title }, { output, operands }) {
    // Loaded only when needed: the plotting library would double the start of every command.
    const [{ renderReport }, { findRunFolders, readStoredRun, reportOn }] = await Promise.all([
      import('../../report/index.js'),
      import('../../report/runs.js'),
    ]);
    const folders = operands.flatMap((operand) => {
      const found = findRunFolders(operand);
      if (found.length === 0) requireRunFolder(operand);
      return found;
    });
    const { runs, meta } = reportOn([...new Set(folders)].map(readStoredRun), title);
    const [single] = operands.length === 1 ? operands : [];
    const file = out ?? (single === undefined ? 'report.html' : join(single, 'report.html'));
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, renderReport(runs, meta));
    output.text(comparisonTable(runs, meta.reference));
    output.text(`\n${file}`);
    output.document({
      report: file,
      title: meta.title,
      runs: runs.map(({ group, seed, epochs, origin }) => ({ group, seed, epochs: epochs.length, ...origin })),
    });
  },
});
