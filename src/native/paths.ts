// Where things lie: this package, the user's cache, and libtorch inside it.
// Everything that is big or downloaded lives in the cache, so deleting that folder always is a clean start.

import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Environment variables, as `process.env` gives them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The folder that holds package.json, whether this file runs from `src/` or from `dist/`. */
export const packageRoot: string = fileURLToPath(new URL('../../', import.meta.url));

/** `FLATMIN_CACHE`, else `$XDG_CACHE_HOME/flatmin`, else `~/.cache/flatmin`. */
export function cacheRoot(env: Environment): string {
  if (env.FLATMIN_CACHE) return env.FLATMIN_CACHE;
  return join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'flatmin');
}

/** The folder of one libtorch in the cache; it holds `torch/` and, for CUDA, `nvidia/`. */
export function libtorchHome(cache: string, version: string, device: 'cpu' | 'cuda'): string {
  return join(cache, 'libtorch', `${version}-${device}`);
}
