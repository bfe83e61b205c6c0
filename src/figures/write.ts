// Writes a figure as three files: NAME.svg, NAME.png with twice the pixels, and NAME.json with the numbers it was drawn from.
import { mkdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Resvg } from '@resvg/resvg-js';
import { writeWhole } from '../write.js';
import { compose } from './compose.js';
import type { Drawing, Figure } from './figure.js';

/** Where the files of a figure lie. */
export interface WrittenFigure {
  readonly name: string;
  readonly title: string;
  readonly caption: string;
  readonly svg: string;
  readonly png: string;
  readonly json: string;
}

const PIXELS = 2;

/** The font of the PNG, so that it looks the same on machines without fonts. */
function fontFiles(): string[] {
  const { resolve } = createRequire(import.meta.url);
  return ['400Regular/Inter_400Regular.ttf', '600SemiBold/Inter_600SemiBold.ttf'].map((file) =>
    resolve(`@expo-google-fonts/inter/${file}`),
  );
}

/** Makes an SVG document into a PNG. */
export function toPng(svg: string): Buffer {
  const font = { fontFiles: fontFiles(), loadSystemFonts: false, defaultFontFamily: 'Inter', sansSerifFamily: 'Inter' };
  return new Resvg(svg, { font, fitTo: { mode: 'zoom', value: PIXELS } }).render().asPng();
}

/** Draws into `stem`.svg and `stem`.png; the folder is made when it is missing. */
export async function writePictures(drawing: Drawing, stem: string): Promise<{ svg: string; png: string }> {
  const files = { svg: `${stem}.svg`, png: `${stem}.png` };
  const svg = compose(drawing);
  await mkdir(dirname(stem), { recursive: true });
  await writeWhole(files.svg, svg);
  await writeWhole(files.png, toPng(svg));
  return files;
}

/** Computes, draws and writes one figure into a folder. */
export async function writeFigure(figure: Figure, folder: string): Promise<WrittenFigure> {
  const data = figure.compute();
  const drawing = figure.draw(data);
  const stem = join(folder, figure.name);
  const pictures = await writePictures(drawing, stem);
  const { title, caption } = drawing;
  const json = `${stem}.json`;
  await writeWhole(json, `${JSON.stringify({ figure: figure.name, title, caption, ...data })}\n`);
  return { name: figure.name, title, caption, ...pictures, json };
}
