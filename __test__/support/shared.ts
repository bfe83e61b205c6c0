// The project's folder of real data, for tests that need it: where FLATMIN_SHARED says, or `shared` beside the checkout.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = process.env.FLATMIN_SHARED ?? fileURLToPath(new URL('../../../shared', import.meta.url));

/** A part of the shared data; nothing where it is absent. */
export function sharedData(name: string): string | undefined {
  const path = join(folder, 'data', name);
  return existsSync(path) ? path : undefined;
}
