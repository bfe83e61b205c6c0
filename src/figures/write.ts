// Writes a figure as three files: NAME.svg, NAME.png with twice the pixels, and NAME.json with the numbers it was drawn from.
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Resvg } from '@resvg/resvg-js';
import { compose } from './compose.js';
import type { Figure } from './figure.js';

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

/** Computes, draws and writes one figure into a folder, which is made when it is missing. */
export async function writeFigure(figure: Figure, folder: string): Promise<WrittenFigure> {
  const data = figure.compute();
  const drawing = figure.draw(data);
  const { title, caption } = drawing;
  const svg = compose(drawing);
  const at = (extension: string) => join(folder, `${figure.name}.${extension}`);
  const files = { svg: at('svg'), png: at('png'), json: at('json') };
  await mkdir(folder, { recursive: true });
  await replaceFile(files.svg, svg);
  await replaceFile(files.png, toPng(svg));
  await replaceFile(files.json, `${JSON.stringify({ figure: figure.name, title, caption, ...data })}\n`);
  return { name: figure.name, title, caption, ...files };
}

/** A failed write leaves the old file. */
async function replaceFile(path: string, contents: string | Uint8Array): Promise<void> {
  const temporary = `${path}.writing`;
  await writeFile(temporary, contents);
  await rename(temporary, path);
}
