// What a figure is: numbers, what they show in words, and panels drawn from them. Numbers come first: they are what tests
// look at and what is written beside each picture.
import type { PlotOptions } from '@observablehq/plot';

/** One plot of a figure. */
export interface FigurePanel {
  readonly title: string;
  readonly plot: PlotOptions;
}

/** Which colour means what. */
export interface LegendItem {
  readonly label: string;
  readonly colour: string;
  /** Drawn as a dot, not as a line. */
  readonly dot?: boolean;
  readonly dashed?: boolean;
}

/** How the numbers of a figure are drawn. */
export interface Drawing {
  readonly title: string;
  /** What is seen, in one or two sentences with the figures that matter. */
  readonly caption: string;
  readonly legend: readonly LegendItem[];
  /** Side by side, all of one height. */
  readonly panels: readonly FigurePanel[];
}

/** A figure of `flatmin figures`. */
export interface Figure<Data extends object = object> {
  /** Name of its files. */
  readonly name: string;
  readonly summary: string;
  /** Computes the numbers; the same ones on every call. */
  readonly compute: () => Data;
  readonly draw: (data: Data) => Drawing;
}

/** Keeps the type of the data while forgetting it in lists of figures. */
export const defineFigure = <Data extends object>(figure: Figure<Data>): Figure<Data> & Figure =>
  figure as unknown as Figure<Data> & Figure;

/** Numbers from `low` to `high`, both included. */
export const linspace = (low: number, high: number, count: number) =>
  Array.from({ length: count }, (_, index) => low + ((high - low) * index) / (count - 1));

/** The same on a logarithmic scale. */
export const logspace = (low: number, high: number, count: number) =>
  linspace(Math.log10(low), Math.log10(high), count).map((exponent) => 10 ** exponent);
