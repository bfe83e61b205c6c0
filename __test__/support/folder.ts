// A folder for what tests write, removed when they are through.

import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

/** A new folder for the tests of a file, or of the `describe` that calls this. */
export function temporaryFolder(name: string): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), `flatmin-${name}-`)));
  afterAll(() => rmSync(folder, { recursive: true }));
  return folder;
}
