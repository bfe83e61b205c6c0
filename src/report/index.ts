// One self-contained HTML page about training runs: summary, curves, settings, environment and every epoch's figures.
// It needs no network and no script, so it can be kept beside the checkpoints or mailed.

import type { TrainScores } from '../events.js';
import { drawPanel, PANELS, strokeOf } from './charts.js';
import { Html, html } from './escape.js';
import { STYLE } from './page.css.js';
import { summarize, summaryColumns } from './statistics.js';
import { drawSweep } from './sweep.js';
import { htmlTable } from './table.js';
import { timingColumns } from './timing.js';
import type { ReportMeta, ReportRun, ReportSweep } from './types.js';

export type { ReportEpoch, ReportMeta, ReportRun, ReportSweep } from './types.js';

const swatch = (index: number) => html`<span class="swatch" style="background:${strokeOf(index).stroke}"></span>`;

/** `drawn` has the groups with a colour. */
function summaryTable(runs: readonly ReportRun[], drawn: readonly string[], reference: string | undefined): Html {
  const summaries = summarize(runs, reference);
  const columns = summaryColumns(summaries, reference);
  const rows = summaries.map((summary) => {
    const cells = columns.map(({ text }) => text(summary));
    const index = drawn.indexOf(summary.group);
    const colour = index < 0 ? html`<span class="swatch"></span>` : swatch(index);
    return [html`${colour}${summary.group}`, ...cells];
  });
  const titles = ['Optimizer', ...columns.map(({ title }) => title)];
  const seeds = [...new Set(runs.map(({ seed }) => seed))].toSorted((a, b) => a - b).join(', ');
  return html`<div class="card result">${htmlTable(titles, rows)}</div>
<p class="muted">Mean ± sample standard deviation over n seeds (${seeds}), after the last epoch. The generalization gap is held-out loss minus training loss.</p>`;
}

function panels(runs: readonly ReportRun[], groups: readonly string[]): Html {
  const shown = runs.filter(({ group }) => groups.includes(group));
  const figures = PANELS.flatMap((panel) => {
    const drawing = drawPanel(panel, shown, groups);
    return drawing === undefined ? [] : [html`<figure class="card"><h3>${panel.title}</h3>${drawing}</figure>`];
  });
  const several = shown.length > groups.length;
  return html`${legend(groups)}<div class="panels">${figures}</div>
<p class="muted">${several ? 'Line: mean over the seeds. Band: ± one standard deviation.' : ''}</p>`;
}

const legend = (names: readonly string[]) =>
  html`<ul class="legend">${names.map((name, index) => html`<li>${swatch(index)}${name}</li>`)}</ul>`;

function timingSection(runs: readonly ReportRun[]): Html {
  const groups = [...new Set(runs.map(({ group }) => group))];
  const columns = timingColumns(runs);
  const rows = groups.map((group) => [
    group,
    ...columns.map(({ text }) => text(runs.filter((run) => run.group === group))),
  ]);
  return html`<h2>Timing</h2><div class="card result">${htmlTable(['Optimizer', ...columns.map(({ title }) => title)], rows)}</div>
<p class="muted">Mean ± sample standard deviation over the runs; of a run, the median of its epochs. Images per second: training alone, evaluations left out.</p>`;
}

/** Where runs came from; nothing for runs without a folder. */
function runsSection(runs: readonly ReportRun[]): Html {
  const rows = runs.flatMap(({ group, seed, epochs, origin }) => {
    if (origin === undefined) return [];
    const { path, state, date = '-' } = origin;
    return [[path, group, String(seed), String(epochs.length), state, date.slice(0, 19).replace('T', ' ')]];
  });
  if (rows.length === 0) return html``;
  return html`<h2>Runs</h2><div class="card">${htmlTable(['folder', 'optimizer', 'seed', 'epochs', 'state', 'started (UTC)'], rows)}</div>`;
}

const shown = (value: unknown): string => {
  if (Array.isArray(value)) return value.map(shown).join(', ');
  if (typeof value === 'object' && value !== null) {
    return Object.entries(value)
      .map(([key, inner]) => `${key} ${shown(inner)}`)
      .join(', ');
  }
  return String(value);
};

function definitions(entries: Readonly<Record<string, unknown>>): Html {
  const items = Object.entries(entries)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([key, value]) => html`<dt>${key}</dt><dd>${shown(value)}</dd>`);
  return html`<dl>${items}</dl>`;
}

const number = (value: number | null | undefined, digits: number) =>
  typeof value === 'number' && Number.isFinite(value) ? value.toFixed(digits) : '-';
const scores = (score: TrainScores | undefined): Html =>
  html`<td>${number(score?.loss, 4)}</td><td>${number(score && score.accuracy * 100, 2)}</td>`;

function epochTable(run: ReportRun): Html {
  const rows = run.epochs.map(
    (epoch) => html`<tr><td>${epoch.epoch}</td>${scores(epoch.train)}${scores(epoch.validation)}${scores(epoch.test)}
<td>${number(epoch.sharpness, 4)}</td><td>${number(epoch.lr, 5)}</td></tr>`,
  );
  return html`<details><summary>${run.group}, seed ${run.seed}</summary><table><thead><tr><th>epoch</th><th>train loss</th><th>train %</th><th>validation loss</th>
<th>validation %</th><th>test loss</th><th>test %</th><th>sharpness</th><th>learning rate</th></tr></thead><tbody>${rows}</tbody></table></details>`;
}

function sweepFigure(sweep: ReportSweep): Html {
  return html`<figure class="card wide"><h3>Test accuracy over ${sweep.option}</h3>${legend(sweep.lines.map(({ name }) => name))}${drawSweep(sweep)}</figure>`;
}

function sweepSection(sweeps: readonly ReportSweep[]): Html {
  if (sweeps.length === 0) return html``;
  return html`<h2>Sweeps</h2>${sweeps.map(sweepFigure)}
<p class="muted">Point: mean over the seeds after the last epoch. Band: ± one standard deviation. Dashed: an optimizer that was not swept.</p>`;
}

/** Draws the report of `runs`. The result is a whole HTML document without any reference to other files. */
export function renderReport(runs: readonly ReportRun[], meta: ReportMeta): string {
  const drawn = meta.drawn ?? [...new Set(runs.map((run) => run.group))];
  const notes = (meta.notes ?? []).map((note) => html`<p>${note}</p>`);
  return html`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${meta.title}</title><style>${new Html(STYLE)}</style></head>
<body><main>
<h1>${meta.title}</h1>
<p class="muted">${meta.summary ?? ''}</p>
<h2>Result</h2>
${summaryTable(runs, drawn, meta.reference)}
${notes}
${sweepSection(meta.sweeps ?? [])}
<h2>Curves</h2>
${panels(runs, drawn)}
${timingSection(runs)}
${runsSection(runs)}
<h2>How it was made</h2>
<div class="columns"><div class="card"><h3>Settings</h3>${definitions(meta.options)}</div>
<div class="card"><h3>Environment</h3>${definitions(meta.environment)}</div></div>
<h2>Every epoch</h2>
<div class="card">${runs.map(epochTable)}</div>
<footer><p>Drawn by flatmin.</p></footer>
</main></body></html>
`.markup;
}
