// Brings wheels through `pip download`, so that the user's mirrors, proxies and credentials work as pip knows them.

import { spawn } from 'node:child_process';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { FlatminError } from '../../errors.js';
import type { LibtorchTable, Wheel } from '../libtorch-table.js';
import { missingWheels } from './checks.js';
import { megabytes, type Reporter } from './reporter.js';
import type { SetupWorld } from './world.js';

/** Downloads the wheels that `folder` lacks. */
export async function downloadWheels(
  folder: string,
  wheels: readonly Wheel[],
  python: string,
  world: SetupWorld,
  reporter: Reporter,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const missing = await missingWheels(folder, wheels);
  if (missing.length === 0) return;
  const total = missing.reduce((sum, wheel) => sum + wheel.bytes, 0);
  reporter.note(
    `downloading ${missing.map((wheel) => `${wheel.name} ${wheel.version}`).join(', ')} with pip (${megabytes(total)})`,
  );
  // pip's temporary files go here, too: /tmp is a small memory disk on many machines.
  const temporary = join(folder, '.pip');
  await mkdir(temporary, { recursive: true });
  const before = await bytesIn(folder);
  const watch = setInterval(() => {
    void bytesIn(folder).then((bytes) => {
      reporter.progress(
        `downloading ${megabytes(Math.min(Math.max(bytes - before, 0), total))} of ${megabytes(total)}`,
      );
    });
  }, 500);
  try {
    await runPip(
      python,
      [...pipArguments(world.table, folder), ...missing.map((wheel) => `${wheel.name}==${wheel.version}`)],
      {
        ...world.env,
        TMPDIR: temporary,
      },
    );
  } finally {
    clearInterval(watch);
    await rm(temporary, { recursive: true, force: true });
  }
  await checkArrived(folder, missing);
}

function pipArguments({ pip }: LibtorchTable, folder: string): string[] {
  return [
    ...['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-input', '--dest', folder],
    ...[
      '--no-deps',
      '--only-binary=:all:',
      '--python-version',
      pip.pythonVersion,
      '--implementation',
      pip.implementation,
    ],
    ...pip.platforms.flatMap((platform) => ['--platform', platform]),
  ];
}

async function runPip(python: string, args: string[], env: NodeJS.ProcessEnv): Promise<void> {
  const child = spawn(python, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-4_000);
  });
  const status = await new Promise<number | string>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
  if (status === 0) return;
  const reason = errors.trim().split('\n').slice(-6).join('\n  ');
  throw new FlatminError(
    'ERR_FLATMIN_SETUP',
    `pip download failed (${status}):\n  ${reason}\nBehind a proxy, set HTTPS_PROXY; with a mirror, set it in pip's configuration. ` +
      'Without a network, run `flatmin setup --download-only DIR` on another machine, then `flatmin setup --from-dir DIR` here.',
  );
}

/** A mirror may offer a differently built wheel of the same version; that is said here and not as a missing file later. */
async function checkArrived(folder: string, wheels: readonly Wheel[]): Promise<void> {
  const absent = await missingWheels(folder, wheels);
  if (absent.length === 0) return;
  const names = absent.map((wheel) => `${wheel.file} (${wheel.bytes} bytes)`).join(', ');
  throw new FlatminError(
    'ERR_FLATMIN_CHECKSUM',
    `pip brought other files than expected: ${names} did not arrive in ${folder}`,
  );
}

async function bytesIn(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true }).catch(() => []);
  const sizes = entries
    .filter((entry) => entry.isFile())
    .map((entry) => stat(join(entry.parentPath, entry.name)).catch(() => undefined));
  return (await Promise.all(sizes)).reduce((sum, found) => sum + (found?.size ?? 0), 0);
}
