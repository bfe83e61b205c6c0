// Writes a file complete or not at all: what was there before stays when the disk is full or the process ends.
import { rename, rm, writeFile } from 'node:fs/promises';

/** Writes `contents` beside `path` and renames that. */
export async function writeWhole(path: string, contents: string | Uint8Array): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, contents);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
