// Plain text tables for terminals: numbers to the right, words to the left.
import { summarize, summaryColumns } from '../report/statistics.js';
import type { ReportRun } from '../report/types.js';

/** Lays out `rows` under `head`; a column is right-aligned when all its cells begin with a digit, a sign or a dash. */
export function textTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const columns = head.map((title, index) => {
    const cells = rows.map((row) => row[index] ?? '');
    return {
      width: Math.max(title.length, ...cells.map((cell) => cell.length)),
      numeric: cells.length > 0 && cells.every((cell) => /^[-+\d]/.test(cell)),
    };
  });
  const line = (cells: readonly string[]) =>
    columns
      .map(({ width, numeric }, index) =>
        numeric ? (cells[index] ?? '').padStart(width) : (cells[index] ?? '').padEnd(width),
      )
      .join('  ')
      .trimEnd();
  return [line(head), columns.map(({ width }) => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n');
}

/** The comparison of groups of runs; `reference` is the group that times are relative to. */
export function comparisonTable(runs: readonly ReportRun[], reference: string | undefined): string {
  const summaries = summarize(runs, reference);
  const columns = summaryColumns(summaries, reference);
  const rows = summaries.map((summary) => [summary.group, ...columns.map(({ text }) => text(summary))]);
  return textTable(['optimizer', ...columns.map(({ title }) => title)], rows);
}
