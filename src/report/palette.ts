// The colours of everything that is drawn: light and dark pages, and the series of charts.
// Series colours are Okabe and Ito's palette, told apart with common colour blindness, lightened for dark pages.

/** Colours of a page and its charts. */
export interface Palette {
  readonly page: string;
  readonly card: string;
  readonly ink: string;
  readonly muted: string;
  readonly line: string;
  readonly accent: string;
  readonly series: readonly string[];
}

/** On a light ground; also what a picture in a file has. */
export const light: Palette = {
  ...{ page: '#fbfbfa', card: '#ffffff', ink: '#1c1e21', muted: '#5d6470', line: '#dfe1e5', accent: '#0b5fa5' },
  series: ['#0072b2', '#d55e00', '#008a64', '#b4568f', '#8f6b00', '#2a7fa8', '#6b6b6b', '#7a3fb5'],
};

/** On a dark ground. */
export const dark: Palette = {
  ...{ page: '#15171a', card: '#1d2024', ink: '#e8eaed', muted: '#a0a7b2', line: '#34383f', accent: '#6cb6f5' },
  series: ['#56b4e9', '#ff9350', '#35c79c', '#e294c4', '#f0c94a', '#8ad0f0', '#b4b4b4', '#bf94f0'],
};

/** Number of distinct series colours. */
export const SERIES = light.series.length;

function variables({ series, ...colours }: Palette): string {
  const named = Object.entries(colours).map(([name, colour]) => `--${name}: ${colour};`);
  return [...named, ...series.map((colour, index) => `--series-${index}: ${colour};`)].join(' ');
}

/** The colours as CSS variables, which follow what the reader's system prefers. */
export const CSS_VARIABLES = `:root { color-scheme: light dark; ${variables(light)} }
@media (prefers-color-scheme: dark) { :root { ${variables(dark)} } }`;
