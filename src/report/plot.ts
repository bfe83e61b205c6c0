// Observable Plot without a browser: drawings are made on a document that lives in memory.
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

/** Draws a plot; the result is the markup of one `svg` element. */
export function plotSvg(options: Plot.PlotOptions): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const figure = Plot.plot({ ...options, document });
  figure.setAttribute('role', 'img');
  return figure.outerHTML;
}
