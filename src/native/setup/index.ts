// `flatmin setup`: sees to it that a libtorch of the right release is where the loader finds it.
// Takes an existing one, or wheels or an archive from a folder or from the network; a second run finds everything done.

import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { FlatminError } from '../../errors.js';
import { refusal } from '../find.js';
import { fitting, inspectLibtorch, type Libtorch, type LibtorchDevice } from '../libtorch.js';
import { wheelsFor } from '../libtorch-table.js';
import { cacheRoot, libtorchHome } from '../paths.js';
import { platformOf } from '../platform.js';
import { downloadArchive } from './archive.js';
import { checkSpace, checkWheels } from './checks.js';
import { adopt, install, type Source, sourceIn } from './install.js';
import { withLock } from './lock.js';
import { downloadWheels } from './pip.js';
import type { Reporter } from './reporter.js';
import { type SetupWorld, thisWorld } from './world.js';

/** What `flatmin setup` was asked for; at most one of the four sources. */
export interface SetupRequest {
  /** Default `auto`: CUDA where there is an NVIDIA driver. */
  readonly device?: LibtorchDevice | 'auto';
  /** An existing libtorch, which is used in place. */
  readonly libtorch?: string;
  /** Use the PyTorch of an installed Python in place. */
  readonly fromPython?: boolean;
  /** A folder that `downloadOnly` filled, on this machine or another. */
  readonly fromDir?: string;
  /** Only fill this folder; nothing is installed. */
  readonly downloadOnly?: string;
}

/** What set-up did. */
export interface SetupResult {
  readonly action: 'nothing' | 'installed' | 'linked' | 'downloaded';
  readonly device: LibtorchDevice;
  readonly version: string;
  /** The libtorch, or the folder with the downloaded files. */
  readonly path: string;
}

/**
 * Brings libtorch.
 * @throws `ERR_FLATMIN_PLATFORM`, `ERR_FLATMIN_OPTION`, `ERR_FLATMIN_SETUP`, `ERR_FLATMIN_CHECKSUM`, `ERR_FLATMIN_LIBTORCH`,
 * `ERR_FLATMIN_LIBTORCH_VERSION`, `ERR_FLATMIN_DEVICE`.
 */
export async function setUp(
  request: SetupRequest,
  reporter: Reporter,
  world: SetupWorld = thisWorld(),
): Promise<SetupResult> {
  checkRequest(request);
  platformOf(world.machine);
  const device = deviceOf(request, world);
  const { version } = world.table;
  if (request.downloadOnly !== undefined) {
    const folder = resolve(request.downloadOnly);
    const source = await download(folder, device, world, reporter);
    if (source.kind === 'wheels') await checkWheels(folder, source.wheels, reporter);
    return { action: 'downloaded', device, version, path: folder };
  }
  const existing = namedFolder(request, world);
  if (existing !== undefined) return { version, ...(await link(existing, request, world, reporter)) };
  const ready = readyLibtorch(device, world, reporter);
  if (ready !== undefined) return { action: 'nothing', device, version, path: ready.root };
  return bring(request, device, world, reporter);
}

function checkRequest(request: SetupRequest): void {
  const sources = [
    request.libtorch !== undefined && '--libtorch',
    request.fromPython === true && '--from-python',
    request.fromDir !== undefined && '--from-dir',
    request.downloadOnly !== undefined && '--download-only',
  ].filter((name) => name !== false);
  if (sources.length > 1)
    throw new FlatminError('ERR_FLATMIN_OPTION', `${sources.join(' and ')} exclude each other; give one of them`);
}

function deviceOf({ device = 'auto' }: SetupRequest, world: SetupWorld): LibtorchDevice {
  if (device !== 'auto') return device;
  return world.hasDriver() ? 'cuda' : 'cpu';
}

/** The folder that the command line names. */
function namedFolder(request: SetupRequest, world: SetupWorld): string | undefined {
  if (request.libtorch !== undefined) return request.libtorch;
  if (request.fromPython !== true) return undefined;
  const python = world.python();
  if (python?.torch) return python.torch;
  const who =
    python === undefined ? 'No Python was found' : `Python ${python.version} (${python.command}) has no PyTorch`;
  throw new FlatminError(
    'ERR_FLATMIN_LIBTORCH',
    `${who}. Install it with \`pip install torch==${world.table.version}\`, name another Python with FLATMIN_PYTHON, or run setup without --from-python.`,
  );
}

async function link(
  folder: string,
  request: SetupRequest,
  world: SetupWorld,
  reporter: Reporter,
): Promise<Pick<SetupResult, 'action' | 'device' | 'path'>> {
  const libtorch = accept(folder, request, world.table.version);
  const device = libtorch.hasCuda ? 'cuda' : 'cpu';
  const home = libtorchHome(cacheRoot(world.env), world.table.version, device);
  const already = inspectLibtorch(home);
  if ('libtorch' in already && already.libtorch.root === libtorch.root)
    return { action: 'nothing', device, path: libtorch.root };
  await locked(world, reporter, () => adopt(libtorch.root, home));
  return { action: 'linked', device, path: libtorch.root };
}

function accept(folder: string, request: SetupRequest, version: string): Libtorch {
  const fit = fitting(folder, version, request.device === 'cuda' ? 'cuda' : 'cpu');
  if ('libtorch' in fit) return fit.libtorch;
  throw refusal(request.libtorch === undefined ? '--from-python' : '--libtorch', fit);
}

/** A libtorch that the loader would already take, other than an installed Python's. */
function readyLibtorch(device: LibtorchDevice, { env, table }: SetupWorld, reporter: Reporter): Libtorch | undefined {
  const named: [string, string | undefined][] = [
    ['FLATMIN_LIBTORCH', env.FLATMIN_LIBTORCH],
    ['LIBTORCH', env.LIBTORCH],
  ];
  for (const [name, folder] of named) {
    if (!folder) continue;
    const fit = fitting(folder, table.version, device);
    if ('libtorch' in fit) {
      reporter.note(`${name} names a fitting libtorch; it is used as long as ${name} is set`);
      return fit.libtorch;
    }
    if (name === 'FLATMIN_LIBTORCH') throw refusal(name, fit);
    reporter.note(`LIBTORCH is not used: ${fit.problem}`);
  }
  return inCache(device, { env, table });
}

function inCache(device: LibtorchDevice, { env, table }: Pick<SetupWorld, 'env' | 'table'>): Libtorch | undefined {
  const fit = fitting(libtorchHome(cacheRoot(env), table.version, device), table.version, device);
  return 'libtorch' in fit ? fit.libtorch : undefined;
}

/** Downloads what is missing and installs it, unless another process has done so in the meantime. */
async function bring(
  request: SetupRequest,
  device: LibtorchDevice,
  world: SetupWorld,
  reporter: Reporter,
): Promise<SetupResult> {
  const cache = cacheRoot(world.env);
  const { version } = world.table;
  const home = libtorchHome(cache, version, device);
  const downloads = join(cache, 'downloads');
  return locked(world, reporter, async () => {
    const present = inCache(device, world);
    if (present !== undefined) return { action: 'nothing', device, version, path: present.root };
    if (request.fromDir !== undefined) {
      const source = await sourceIn(resolve(request.fromDir), device, world.table);
      return {
        action: 'installed',
        device,
        version,
        path: (await install(source, home, device, world, reporter)).root,
      };
    }
    // Kept when it is interrupted, so that the next run goes on; removed when done, or when a file turns out to be wrong.
    const source = await download(downloads, device, world, reporter);
    const removeDownloads = (): Promise<void> => rm(downloads, { recursive: true, force: true });
    const libtorch = await install(source, home, device, world, reporter).catch(async (error: unknown) => {
      if (error instanceof FlatminError && error.code === 'ERR_FLATMIN_CHECKSUM') await removeDownloads();
      throw error;
    });
    await removeDownloads();
    return { action: 'installed', device, version, path: libtorch.root };
  });
}

async function download(
  folder: string,
  device: LibtorchDevice,
  world: SetupWorld,
  reporter: Reporter,
): Promise<Source> {
  await mkdir(folder, { recursive: true });
  const python = world.python();
  if (python?.hasPip) {
    const wheels = wheelsFor(world.table, device);
    // Once for the files, once for pip's temporary copy.
    checkSpace(folder, 2 * wheels.reduce((sum, wheel) => sum + wheel.bytes, 0), await world.freeBytes(folder));
    await downloadWheels(folder, wheels, python.command, world, reporter);
    return { kind: 'wheels', folder, wheels };
  }
  reporter.note(`${python === undefined ? 'no Python was found' : 'Python has no pip'}: taking PyTorch's own archive`);
  const archive = world.table.archives[device];
  checkSpace(folder, archive.bytes, await world.freeBytes(folder));
  return { kind: 'archive', archive, path: await downloadArchive(folder, archive, world.env, reporter) };
}

function locked<T>(world: SetupWorld, reporter: Reporter, work: () => Promise<T>): Promise<T> {
  return withLock(join(cacheRoot(world.env), 'libtorch', 'setup.lock'), reporter, work);
}
