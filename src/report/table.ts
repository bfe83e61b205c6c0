// Tables of pages.
import { type Html, html } from './escape.js';

/** Rows of cells under titles; the first column has names, the others numbers. */
export function htmlTable(titles: readonly string[], rows: readonly (readonly (Html | string)[])[]): Html {
  const body = rows.map((row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`);
  return html`<table><thead><tr>${titles.map((title) => html`<th>${title}</th>`)}</tr></thead><tbody>${body}</tbody></table>`;
}
