// Puts the panels of a figure into one SVG: title, words, legend, then the plots side by side on a white ground. The file
// needs nothing else: colours are written out, and the PNG is made from it with a font that comes with the package.
import { escapeHtml } from '../report/escape.js';
import { light } from '../report/palette.js';
import { plotSvg } from '../report/plot.js';
import type { Drawing, FigurePanel, LegendItem } from './figure.js';

const FONT = "Inter, system-ui, 'Segoe UI', sans-serif";
const MARGIN = 28;
const GAP = 24;
const PANEL_TITLE = 26;
const LINE = 19;
/** Mean width of a letter, in parts of the font's size; a little too much, so that lines never run out of the picture. */
const LETTER = 0.54;

interface TextStyle {
  readonly size: number;
  readonly weight?: number;
  readonly fill?: string;
}

function text(x: number, y: number, words: string, { size, weight = 400, fill = light.ink }: TextStyle): string {
  return `<text x="${x}" y="${y}" font-size="${size}" font-weight="${weight}" fill="${fill}">${escapeHtml(words)}</text>`;
}

/** Breaks words into lines of at most `width` pixels. */
export function wrap(words: string, width: number, size: number): string[] {
  const letters = Math.max(1, Math.floor(width / (LETTER * size)));
  const lines: string[] = [];
  for (const word of words.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= letters) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

const SIZE = 12.5;
const MARKER = 22;

function legendRow(items: readonly LegendItem[], y: number): string {
  let x = MARGIN;
  return items
    .map(({ label, colour, dot, dashed }) => {
      const left = x;
      x += MARKER + 8 + label.length * SIZE * 0.5 + 24;
      const marker = dot
        ? `<rect x="${left + 7}" y="${y - 8}" width="8" height="8" fill="${colour}"/>`
        : `<line x1="${left}" x2="${left + MARKER}" y1="${y - 4}" y2="${y - 4}" stroke="${colour}" stroke-width="3"${dashed ? ' stroke-dasharray="6 3"' : ''}/>`;
      return marker + text(left + MARKER + 8, y, label, { size: SIZE });
    })
    .join('');
}

function panel({ title, plot }: FigurePanel, x: number, y: number): string {
  const svg = plotSvg({
    marginLeft: 50,
    marginBottom: 40,
    ...plot,
    ariaLabel: title,
    style: { fontFamily: FONT, fontSize: '12px', color: light.ink, background: 'none', overflow: 'visible' },
  });
  const placed = svg.replace('<svg ', `<svg x="${x}" y="${y + PANEL_TITLE}" `);
  return text(x + 4, y + 14, title, { size: 14, weight: 600 }) + placed;
}

/** Draws a figure; the result is a whole SVG document. */
export function compose({ title, caption, legend, panels }: Drawing): string {
  const widths = panels.map(({ plot }) => plot.width ?? 640);
  const heights = panels.map(({ plot }) => plot.height ?? 400);
  const inner = widths.reduce((sum, width) => sum + width, GAP * (panels.length - 1));
  const lines = wrap(caption, inner, SIZE + 0.5);
  const legendAt = 68 + LINE * lines.length + 6;
  const top = legendAt + 22;
  const width = inner + 2 * MARGIN;
  const height = top + PANEL_TITLE + Math.max(...heights) + 18;
  const lefts = widths.map((_, index) => widths.slice(0, index).reduce((sum, each) => sum + each + GAP, MARGIN));
  const body = [
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(MARGIN, 40, title, { size: 20, weight: 600 }),
    ...lines.map((line, index) => text(MARGIN, 66 + LINE * index, line, { size: SIZE + 0.5, fill: light.muted })),
    legendRow(legend, legendAt),
    ...panels.map((each, index) => panel(each, lefts[index] ?? 0, top)),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="${FONT}" role="img">\n<title>${escapeHtml(title)}</title>\n${body.join('\n')}</svg>\n`;
}
