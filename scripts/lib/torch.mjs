// The libtorch releases that the addon can be built against. The first is the usual one; a build for another has a target
// folder, a lock file and a place under native/ of its own, so that neither disturbs the other.

import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hashFiles, root, run } from './base.mjs';

/** `tch` is the version of the bindings; none: what Cargo.lock says. */
export const releases = [{ torch: '2.13.0' }, { torch: '2.11.0', tch: '0.24.0' }];

/** The usual release. */
export const usual = releases[0];

/** Takes `--torch 2.11` out of a command line: the release that it names, and the other words. */
export function takeRelease(args) {
  const place = args.indexOf('--torch');
  if (place < 0) return { release: usual, rest: args };
  const name = args[place + 1];
  const release = releases.find(({ torch }) => torch === name || torch.startsWith(`${name}.`));
  if (release === undefined) {
    const known = releases.map(({ torch }) => torch).join(', ');
    throw new Error(
      `--torch: found ${name ?? 'nothing'}, expected a release that the addon can be built against: ${known}`,
    );
  }
  return { release, rest: args.toSpliced(place, 2) };
}

/** Where the addon for a release goes. */
export function nativeFolder({ torch, tch }) {
  return tch === undefined ? join(root, 'native') : join(root, 'native', `torch-${torch}`);
}

/**
 * The folder that cargo works in, and what it needs in its environment. For another release than the usual one that is a view
 * of the sources with a lock file of its own.
 */
export function workspace({ torch, tch }) {
  if (tch === undefined) return { folder: root, env: {} };
  const folder = join(root, '.cache', `torch-${torch}`);
  mkdirSync(folder, { recursive: true });
  for (const name of ['crates', 'build.rs', 'Cargo.toml', 'rustfmt.toml', 'package.json']) {
    rmSync(join(folder, name), { force: true });
    symlinkSync(join(root, name), join(folder, name));
  }
  // Asking the registry anew each time would need a network, and get other crates now and then.
  const [stamp, from] = [join(folder, '.lock-from'), `${hashFiles(['Cargo.lock'])} ${tch}`];
  if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== from) {
    copyFileSync(join(root, 'Cargo.lock'), join(folder, 'Cargo.lock'));
    run('cargo', ['update', '--quiet', '--manifest-path', join(folder, 'Cargo.toml'), '-p', 'tch', '--precise', tch]);
    writeFileSync(stamp, from);
  }
  return { folder, env: { CARGO_TARGET_DIR: join(root, 'target', `torch-${torch}`) } };
}
