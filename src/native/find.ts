// The search for a libtorch that the addon can use, in a fixed order, and the one error that lists what was tried.

import { FlatminError } from '../errors.js';
import { type AddonFiles, findAddons } from './addon.js';
import { type Fit, fitting, type Libtorch, type LibtorchDevice } from './libtorch.js';
import { cacheRoot, type Environment, libtorchHome } from './paths.js';
import type { Platform } from './platform.js';
import { findPython, type Python } from './python.js';

/** What is searched for, and where; tests put their own world here. */
export interface Search {
  readonly env: Environment;
  /** The libtorch release that the addon was built against. */
  readonly version: string;
  readonly device: LibtorchDevice;
  readonly python?: () => Python | undefined;
}

/** A libtorch that serves, and which place it came from. */
export interface Found {
  readonly libtorch: Libtorch;
  readonly source: string;
}

/** A build of the addon with a libtorch for it. */
export interface Native extends Found {
  readonly files: AddonFiles;
  readonly device: LibtorchDevice;
}

/** What is searched for: {@link Search} without the release, which each build of the addon has its own. */
export interface NativeSearch {
  readonly env: Environment;
  /** `auto`: with CUDA where there is one, else without. */
  readonly device: LibtorchDevice | 'auto';
  readonly python?: () => Python | undefined;
  /** The folder of this package. */
  readonly root?: string;
}

/**
 * Finds a build of the addon together with the libtorch that it was made for; the usual build first. Nothing is opened.
 * @throws As {@link findAddons}, and as {@link findLibtorch} for the usual build when no build has its libtorch.
 */
export function findNative(platform: Platform, { device, root, ...search }: NativeSearch): Native {
  const builds = findAddons(platform, root);
  const failures: unknown[] = [];
  for (const kind of device === 'auto' ? (['cuda', 'cpu'] as const) : [device]) {
    for (const files of builds) {
      try {
        return { files, device: kind, ...findLibtorch({ ...search, version: files.libtorch, device: kind }) };
      } catch (error) {
        failures.push(error);
      }
    }
  }
  throw failures[device === 'auto' ? builds.length : 0];
}

/**
 * Finds libtorch: `FLATMIN_LIBTORCH`, `LIBTORCH`, what `flatmin setup` brought, an installed Python package.
 * Nothing is opened.
 * @throws `ERR_FLATMIN_LIBTORCH_VERSION` (or `_LIBTORCH`, `_DEVICE`) when `FLATMIN_LIBTORCH` names a wrong one: no other
 * place is then tried. `ERR_FLATMIN_LIBTORCH` when no place has one that serves, with the reason for each.
 */
export function findLibtorch(search: Search): Found {
  const tried: string[] = [];
  for (const place of places(search)) {
    const folder = place.folder();
    if (folder === undefined) {
      tried.push(`${place.name}: ${place.absent}`);
      continue;
    }
    const fit = fitting(folder, search.version, search.device);
    if ('libtorch' in fit) return { libtorch: fit.libtorch, source: place.name };
    if (place.strict) throw refusal(place.name, fit);
    tried.push(`${place.name}: ${fit.problem}`);
  }
  throw new FlatminError('ERR_FLATMIN_LIBTORCH', notFound(search, tried));
}

interface Place {
  readonly name: string;
  readonly absent: string;
  /** Set by the user for this package alone: if it is wrong, going on with another one would hide that. */
  readonly strict?: boolean;
  folder(): string | undefined;
}

function places({ env, version, device, python }: Search): Place[] {
  const homes: LibtorchDevice[] = device === 'cuda' ? ['cuda'] : ['cpu', 'cuda'];
  return [
    { name: 'FLATMIN_LIBTORCH', absent: 'not set', strict: true, folder: () => env.FLATMIN_LIBTORCH || undefined },
    { name: 'LIBTORCH', absent: 'not set', folder: () => env.LIBTORCH || undefined },
    ...homes.map((kind) => ({
      name: `cache (${kind})`,
      absent: '',
      folder: () => libtorchHome(cacheRoot(env), version, kind),
    })),
    {
      name: 'Python',
      absent: 'no Python with PyTorch found',
      folder: () => (python ?? (() => findPython(env)))()?.torch ?? undefined,
    },
  ];
}

/** Why a folder that the user named cannot be taken. */
export function refusal(place: string, { code, problem }: Exclude<Fit, { libtorch: Libtorch }>): FlatminError {
  return new FlatminError(
    code,
    `${place}: ${problem}. Point it at a fitting folder, or leave it out and run: npx flatmin setup`,
  );
}

function notFound({ version, device }: Search, tried: readonly string[]): string {
  const command = device === 'cuda' ? 'npx flatmin setup --device cuda' : 'npx flatmin setup';
  const list = tried.map((line) => `  - ${line}`).join('\n');
  return `libtorch ${version} for ${device === 'cuda' ? 'CUDA' : 'the CPU'} was not found. Bring it once with:\n  ${command}\nLooked for it in:\n${list}`;
}
