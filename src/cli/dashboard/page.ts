// The dashboard's page: its frame as HTML; `client.ts` fills it in the browser. Scripts and styles stand in it, so that it
// needs no other file.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Html, html } from '../../report/escape.js';
import { STYLE } from './page.css.js';

interface PageOptions {
  readonly title: string;
  readonly runDir: string;
  /** Marks what the page's policy lets run. */
  readonly nonce: string;
}

const { resolve } = createRequire(import.meta.url);
/** A script's or sheet's text; where its source map lies is of no use here. */
const textOf = (path: string | URL) => new Html(readFileSync(path, 'utf8').replace(/^\/\/# sourceMappingURL=.*$/m, ''));

const TILES = [
  ['loss', 'Training loss'],
  ['accuracy', 'Accuracy'],
  ['gap', 'Generalization gap'],
  ['sharpness', 'Step sharpness'],
  ['speed', 'Throughput'],
  ['lr', 'Learning rate'],
] as const;

/** The whole document. */
export function renderPage({ title, runDir, nonce }: PageOptions): string {
  const chart = resolve('uplot/dist/uPlot.iife.min.js');
  const tiles = TILES.map(
    ([name, label]) =>
      html`<div class="card tile" id="${name}"><span class="label">${label}</span><strong>-</strong><span class="detail"></span></div>`,
  );
  return html`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${title}</title><link rel="icon" href="data:,">
<style nonce="${nonce}">${textOf(resolve('uplot/dist/uPlot.min.css'))}${new Html(STYLE)}</style></head>
<body><main>
<header><div><h1>${title}</h1><p class="muted">${runDir}</p></div>
<div class="state"><span id="state" class="pill" role="status">connecting</span><button id="stop" type="button" disabled>Stop</button></div></header>
<section class="progress"><progress id="progress" max="1" value="0" aria-label="progress of the run"></progress>
<p><span id="where"></span><span id="left"></span></p></section>
<section class="tiles">${tiles}</section>
<section id="charts" class="charts"></section>
<section class="card log"><h2>Log</h2><ol id="log" reversed></ol></section>
<dialog id="confirm"><form method="dialog"><p>Stop the run after its step? It writes a checkpoint, from which it can go on.</p>
<div class="buttons"><button value="cancel" autofocus>Go on training</button><button value="stop" class="danger">Stop</button></div></form></dialog>
</main>
<script nonce="${nonce}">${textOf(chart)}</script>
<script nonce="${nonce}" type="module">${textOf(new URL('./client.js', import.meta.url))}</script>
</body></html>
`.markup;
}
