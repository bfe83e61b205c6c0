// A study as one self-contained HTML page: correlations, a scatter plot for each measure and gap, and the nets left out.
import * as Plot from '@observablehq/plot';
import { drawChart, strokeOf } from '../../report/charts.js';
import { Html, html } from '../../report/escape.js';
import { STYLE } from '../../report/page.css.js';
import { htmlTable } from '../../report/table.js';
import { AXES, type Axis } from './plan.js';
import { MEASURES, type Measure, type NetRecord } from './record.js';
import { correlationTable, GAPS, gapOf, measureOf, nameOfMeasure, remarks, type StudyDocument } from './result.js';

/** The axis that colours the points: the one that separates them most visibly in such studies. */
const COLOUR: Axis = 'dropout';

function scatter(
  nets: readonly NetRecord[],
  measure: Measure,
  gap: (typeof GAPS)[number],
  values: readonly number[],
): Html {
  const marks = values.map((value, index) =>
    Plot.dot(
      nets.filter((net) => net.point[COLOUR] === value),
      {
        ...{ x: measureOf(measure), y: gapOf(gap), r: 3.5, fill: strokeOf(index).stroke, fillOpacity: 0.75 },
        title: (net: NetRecord) => AXES.map((axis) => `${axis} ${net.point[axis]}`).join(', '),
      },
    ),
  );
  const title = `${nameOfMeasure(measure)} and the gap of the ${gap}`;
  const drawing = drawChart({
    ...{ title, marks, x: { label: nameOfMeasure(measure), nice: true } },
    y: { label: `test ${gap} - training ${gap}`, nice: true },
  });
  return html`<figure class="card"><h3>${title}</h3>${drawing}</figure>`;
}

/** Draws the page. */
export function studyPage(document: StudyDocument, title: string): string {
  const nets = document.nets.filter((net) => net.converged);
  const values = [...new Set(nets.map((net) => net.point[COLOUR]))].toSorted((a, b) => a - b);
  const legend = values.map(
    (value, index) =>
      html`<li><span class="swatch" style="background:${strokeOf(index).stroke}"></span>${COLOUR} ${value}</li>`,
  );
  const sections = GAPS.map((gap) => {
    const { head, rows } = correlationTable(document, gap);
    const plots = MEASURES.map((measure) => scatter(nets, measure, gap, values));
    return html`<h2>Gap of the ${gap}</h2><div class="card result">${htmlTable(head, rows)}</div><ul class="legend">${legend}</ul><div class="panels">${plots}</div>`;
  });
  const left = document.notConverged.map((net) => html`<li>${JSON.stringify(net)}</li>`);
  return html`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${title}</title><style>${new Html(STYLE)}</style></head>
<body><main>
<h1>${title}</h1>
${remarks(document).map((line) => html`<p class="muted">${line}</p>`)}
${sections}
<h2>Not converged</h2>
<ul>${left.length > 0 ? left : [html`<li>none</li>`]}</ul>
<h2>How it was made</h2>
<div class="card"><pre>${JSON.stringify({ settings: document.settings, grid: document.grid, environment: document.environment }, undefined, 2)}</pre></div>
<footer><p>Drawn by flatmin.</p></footer>
</main></body></html>
`.markup;
}
