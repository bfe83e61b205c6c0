// The style sheet of a report: light and dark, no fonts or images from elsewhere, fit for printing.
import { CSS_VARIABLES } from './palette.js';

export const STYLE = `
${CSS_VARIABLES}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: .95rem; margin: 0 0 .25rem; }
p { margin: .25rem 0; max-width: 70ch; }
.muted, footer { color: var(--muted); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem; overflow-x: auto; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1rem; }
figure { margin: 0 0 1rem; }
.panels figure { margin: 0; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-size: 11px; }
.wide svg { min-width: 640px; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0 0 .75rem; padding: 0; list-style: none; }
.swatch { display: inline-block; width: 1.4em; height: .3em; border-radius: 2px; margin-right: .5em; vertical-align: middle; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--muted); font-weight: 600; font-size: .85rem; line-height: 1.25; white-space: normal; vertical-align: bottom; }
.result { font-size: .92rem; }
.result tbody tr:hover { background: color-mix(in srgb, var(--accent) 7%, transparent); }
tbody tr:last-child td { border-bottom: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.25rem; margin: 0; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
details summary { cursor: pointer; color: var(--accent); }
details table { margin-top: .75rem; font-size: .85rem; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1rem; }
@media print { body { background: none; } .card { break-inside: avoid; } }
`;
