// What `flatmin setup` does and prints.

import { type SetupRequest, type SetupResult, setUp } from '../native/setup/index.js';
import { type SetupWorld, thisWorld } from '../native/setup/world.js';
import type { Output } from './output.js';

/** Runs set-up with progress on stderr; on stdout a line about the result, or under --json the result itself. */
export async function runSetup(
  options: SetupRequest,
  io: Output,
  world: SetupWorld = thisWorld(),
): Promise<SetupResult> {
  const result = await setUp(options, io, world);
  io.text(summary(result));
  io.document(result);
  return result;
}

function summary({ action, device, version, path }: SetupResult): string {
  const what = `libtorch ${version} (${device})`;
  if (action === 'downloaded')
    return `The files of ${what} are in ${path}. Next: flatmin setup --device ${device} --from-dir ${path}`;
  if (action === 'nothing') return `${what} is in place: ${path}`;
  return `${what} is ready: ${path}`;
}
