// The libtorch that cargo builds against, and the environment that tells it so. Needs dist/, which bootstrap.mjs makes first.

import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { importDist, root } from './base.mjs';
import { usual } from './torch.mjs';

/** The libtorch of a release that the loader would take, or undefined. Throws when FLATMIN_LIBTORCH names a wrong one. */
export async function libtorchForBuild(release = usual) {
  const { findLibtorch } = await importDist('native/find.js');
  try {
    return findLibtorch({ env: process.env, version: release.torch, device: 'cpu' }).libtorch;
  } catch (error) {
    if (error.code === 'ERR_FLATMIN_LIBTORCH' && !process.env.FLATMIN_LIBTORCH) return undefined;
    throw error;
  }
}

/** The same; throws when there is none. */
export async function requireLibtorch(release = usual) {
  const libtorch = await libtorchForBuild(release);
  if (libtorch !== undefined) return libtorch;
  throw new Error(
    `libtorch ${release.torch} is missing; bring it with: node scripts/bootstrap.mjs --torch ${release.torch}`,
  );
}

/** The environment for cargo: where libtorch is for the build, and where its libraries are for tests. */
export async function buildEnvironment(release = usual) {
  const libtorch = await libtorchForBuild(release);
  const path = [libtorch.lib, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':');
  return {
    ...process.env,
    LIBTORCH: libtorch.hasCuda ? withoutCuda(libtorch) : libtorch.root,
    LD_LIBRARY_PATH: path,
    // `napi build` names its target, and cargo keeps a folder for each; named here too, tests share what the addon compiled.
    CARGO_BUILD_TARGET: 'x86_64-unknown-linux-gnu',
  };
}

/** torch-sys links libtorch_cuda as soon as it sees it; one addon must serve both, so it is built against a view without it. */
function withoutCuda(libtorch) {
  const view = join(root, '.cache', `libtorch-${libtorch.version}-view`);
  rmSync(view, { recursive: true, force: true });
  mkdirSync(join(view, 'lib'), { recursive: true });
  const names = readdirSync(libtorch.lib).filter(
    (name) => name.includes('.so') && !/cuda|nvrtc|nvshmem|python/.test(name),
  );
  for (const name of names) symlinkSync(join(libtorch.lib, name), join(view, 'lib', name));
  for (const name of ['include', 'build-version']) {
    if (existsSync(join(libtorch.root, name))) symlinkSync(join(libtorch.root, name), join(view, name));
  }
  return view;
}
