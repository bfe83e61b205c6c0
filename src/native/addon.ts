// Where the addon lies: `native/` of a clone, else the npm package of this platform that npm installs beside this one. Beside
// the build for the libtorch of this release there may be others, for the PyTorch of another release that is installed.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { FlatminError } from '../errors.js';
import { torchVersion } from './libtorch-table.js';
import { packageRoot } from './paths.js';
import type { Platform } from './platform.js';

/** The native files of this platform. */
export interface AddonFiles {
  readonly addon: string;
  readonly preload: string;
  /** The libtorch release they were built against: no other may be loaded with them. */
  readonly libtorch: string;
}

/** `require`, for files that only CommonJS can load. */
export const nodeRequire: NodeJS.Require = createRequire(import.meta.url);

/**
 * Finds the builds of the addon, the usual one first, without opening them.
 * @throws `ERR_FLATMIN_ADDON` when there is none, or one of another release of this package.
 */
export function findAddons(platform: Platform, root: string = packageRoot): readonly [AddonFiles, ...AddonFiles[]] {
  const [first, ...others] = buildsIn(join(root, 'native'), platform);
  if (first !== undefined) return [first, ...others];
  const folder = packageFolder(platform);
  const installed = folder === undefined ? undefined : filesIn(folder, platform);
  if (folder === undefined || installed === undefined)
    throw new FlatminError('ERR_FLATMIN_ADDON', howToGet(platform, root));
  const [ours, theirs] = [versionOf(root), versionOf(folder)];
  if (ours !== theirs) {
    throw new FlatminError(
      'ERR_FLATMIN_ADDON',
      `flatmin ${ours} found ${platform.packageName} ${theirs}; both must be the same. Install again: npm install flatmin@${ours}`,
    );
  }
  return [installed];
}

/** The folder's own build, and those that `scripts/bootstrap.mjs --torch` made in folders of theirs. */
function buildsIn(folder: string, platform: Platform): AddonFiles[] {
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith('torch-')) : [];
  return [folder, ...names.sort().map((name) => join(folder, name))].flatMap((place) => filesIn(place, platform) ?? []);
}

function packageFolder(platform: Platform): string | undefined {
  try {
    return dirname(nodeRequire.resolve(`${platform.packageName}/package.json`));
  } catch {
    return undefined;
  }
}

function filesIn(folder: string, platform: Platform): AddonFiles | undefined {
  const [addon, preload] = [join(folder, platform.addon), join(folder, platform.preload)];
  if (!existsSync(addon) || !existsSync(preload)) return undefined;
  return { addon, preload, libtorch: builtAgainst(folder) };
}

/** `build.json` is written beside the addon when it is built. */
function builtAgainst(folder: string): string {
  const file = join(folder, 'build.json');
  if (!existsSync(file)) return torchVersion;
  return (JSON.parse(readFileSync(file, 'utf8')) as { libtorch: string }).libtorch;
}

function versionOf(folder: string): string {
  return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string }).version;
}

function howToGet(platform: Platform, root: string): string {
  if (existsSync(join(root, 'crates'))) {
    return `The native addon is not built: ${join(root, 'native', platform.addon)} is missing. Build it with: node scripts/bootstrap.mjs`;
  }
  return (
    `The package ${platform.packageName} is missing. Package managers skip it when optional dependencies are switched off ` +
    'or when node_modules was copied from another platform. Install again here with: npm install --include=optional flatmin'
  );
}
