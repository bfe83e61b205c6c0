// The style sheet of the dashboard, in the colours of the reports.
import { CSS_VARIABLES } from '../../report/palette.js';

export const STYLE = `
${CSS_VARIABLES}
:root { --danger: #b3261e; --good: #1a7f4b; --busy: #0b5fa5; }
@media (prefers-color-scheme: dark) { :root { --danger: #ff8a80; --good: #63d297; --busy: #6cb6f5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.45 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 1.5rem 1.25rem 3rem; display: grid; gap: 1rem; }
h1 { font-size: 1.35rem; line-height: 1.25; margin: 0; }
h2 { font-size: .95rem; margin: 0 0 .5rem; }
p { margin: 0; }
.muted, .label, .detail { color: var(--muted); }
header { display: flex; flex-wrap: wrap; gap: .75rem 1.5rem; justify-content: space-between; align-items: center; }
header .muted { overflow-wrap: anywhere; font-size: .9rem; }
.state { display: flex; gap: .75rem; align-items: center; }
.pill { border-radius: 99px; padding: .2rem .75rem; font-weight: 600; font-size: .9rem; border: 1px solid currentColor; color: var(--muted); white-space: nowrap; }
.pill[data-state="training"] { color: var(--busy); }
.pill[data-state="finished"] { color: var(--good); }
.pill:is([data-state="stopped"], [data-state="stopping"], [data-state="aborted"], [data-state="failed"], [data-state="disconnected"], [data-state="cut off"]) { color: var(--danger); }
button { font: inherit; font-weight: 600; color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .35rem 1rem; cursor: pointer; }
button:hover:enabled { border-color: var(--muted); }
button:disabled { opacity: .45; cursor: default; }
button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
#stop:enabled, .danger { color: var(--danger); border-color: var(--danger); }
.progress { display: grid; gap: .35rem; }
.progress p { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .25rem 1.5rem; font-variant-numeric: tabular-nums; }
progress { appearance: none; width: 100%; height: 8px; border: 0; border-radius: 99px; overflow: hidden; background: var(--line); }
progress::-webkit-progress-bar { background: var(--line); }
progress::-webkit-progress-value { background: var(--accent); border-radius: 99px; transition: width .4s; }
progress::-moz-progress-bar { background: var(--accent); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .85rem 1rem; min-width: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .75rem; }
.tile { display: grid; gap: .1rem; align-content: start; font-variant-numeric: tabular-nums; }
.tile strong { font-size: 1.5rem; line-height: 1.2; }
.label { font-size: .85rem; }
.detail { font-size: .85rem; min-height: 1.25em; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: .75rem; }
.charts .card { padding-bottom: .5rem; }
.uplot { width: 100%; font-family: inherit; }
.uplot .u-legend { font-size: 12px; text-align: left; margin: 0; font-variant-numeric: tabular-nums; }
.u-inline tr { margin-right: 10px; }
.u-series > * { padding: 2px; }
.u-series:first-child .u-marker { display: none; }
.u-legend .u-value { min-width: 3.9em; }
.uplot .u-inline.u-live th::after { content: none; }
.u-legend .u-marker { width: 1.1em; height: .25em; border-radius: 2px; }
.log ol { margin: 0; padding: 0; list-style: none; max-height: 22rem; overflow-y: auto; font: 12.5px/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.log li { white-space: pre-wrap; padding: .1rem 0; border-bottom: 1px solid color-mix(in srgb, var(--line) 55%, transparent); overflow-wrap: anywhere; }
.log li.warning { color: var(--danger); }
.log li.minor { color: var(--muted); }
dialog { border: 1px solid var(--line); border-radius: 12px; background: var(--card); color: var(--ink); padding: 1.25rem; max-width: 26rem; }
dialog::backdrop { background: rgb(0 0 0 / .4); }
.buttons { display: flex; justify-content: flex-end; gap: .75rem; margin-top: 1.25rem; }
@media (prefers-reduced-motion: reduce) { progress::-webkit-progress-value { transition: none; } }
`;
