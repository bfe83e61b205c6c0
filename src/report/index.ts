// One self-contained HTML page about training runs: summary, curves, settings, environment and every epoch's figures.
// It needs no network and no script, so it can be kept beside the checkpoints or mailed.

import type { TrainScores } from '../events.js';
import { drawPanel, PANELS, SERIES } from './charts.js';
import { Html, html } from './escape.js';
import { STYLE } from './page.css.js';
import { mean, percentWithDeviation, summarize } from './statistics.js';
import type { ReportMeta, ReportRun } from './types.js';

export type { ReportEpoch, ReportMeta, ReportRun } from './types.js';

const swatch = (index: number) => html`<span class="swatch" style="background:var(--series-${index % SERIES})"></span>`;

function summaryTable(runs: readonly ReportRun[]): Html {
  const summaries = summarize(runs);
  const split = summaries.find((summary) => summary.split !== undefined)?.split ?? 'test';
  const rows = summaries.map(
    (
      summary,
      index,
    ) => html`<tr><td>${swatch(index)}${summary.group}</td><td>${percentWithDeviation(summary.heldOut)}</td>
<td>${percentWithDeviation(summary.train)}</td><td>${mean(summary.seconds).toFixed(1)}</td><td>${summary.seeds.length}</td><td>${summary.seeds.join(', ')}</td></tr>`,
  );
  return html`<div class="card"><table><thead><tr><th>Optimizer</th><th>${split} accuracy, %</th><th>training accuracy, %</th>
<th>seconds a run</th><th>runs</th><th>seeds</th></tr></thead><tbody>${rows}</tbody></table></div>
<p class="muted">After the last epoch; mean ± sample standard deviation over the seeds.</p>`;
}

function panels(runs: readonly ReportRun[]): Html {
  const groups = [...new Set(runs.map((run) => run.group))];
  const figures = PANELS.flatMap((panel) => {
    const drawing = drawPanel(panel, runs, groups);
    return drawing === undefined ? [] : [html`<figure class="card"><h3>${panel.title}</h3>${drawing}</figure>`];
  });
  const chips = groups.map((group, index) => html`<li>${swatch(index)}${group}</li>`);
  return html`<ul class="legend">${chips}</ul><div class="panels">${figures}</div>`;
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

/** Draws the report of `runs`. The result is a whole HTML document without any reference to other files. */
export function renderReport(runs: readonly ReportRun[], meta: ReportMeta): string {
  const notes = (meta.notes ?? []).map((note) => html`<p>${note}</p>`);
  return html`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${meta.title}</title><style>${new Html(STYLE)}</style></head>
<body><main>
<h1>${meta.title}</h1>
<p class="muted">${meta.summary ?? ''}</p>
<h2>Result</h2>
${summaryTable(runs)}
${notes}
<h2>Curves</h2>
${panels(runs)}
<h2>How it was made</h2>
<div class="columns"><div class="card"><h3>Settings</h3>${definitions(meta.options)}</div>
<div class="card"><h3>Environment</h3>${definitions(meta.environment)}</div></div>
<h2>Every epoch</h2>
<div class="card">${runs.map(epochTable)}</div>
<footer><p>Drawn by flatmin.</p></footer>
</main></body></html>
`.markup;
}
