// Everything that decides whether training can work here, looked at one by one; `flatmin doctor` prints it.
// Nothing native is loaded in this process: that is tried in a child, whose crash is a finding, too.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, freemem, release, totalmem } from 'node:os';
import { basename, join } from 'node:path';
import { FlatminError } from '../errors.js';
import { type AddonFiles, findAddons } from './addon.js';
import { type GpuReport, gpuReport } from './driver.js';
import { type Found, findLibtorch, findNative } from './find.js';
import type { LibtorchDevice } from './libtorch.js';
import { torchVersion } from './libtorch-table.js';
import { type Environment, packageRoot } from './paths.js';
import { type Machine, type Platform, platformOf, thisMachine } from './platform.js';
import type { ProbeReport } from './probe.js';

/** One thing that was looked at. `bad` means that training fails, `note` that it works less well than it could. */
export interface Finding {
  readonly name: string;
  readonly state: 'ok' | 'note' | 'bad';
  readonly value: string;
  readonly fix?: string;
}

/** What a child process that loaded everything ended with. */
export type ProbeOutcome = ProbeReport | { readonly ok: false; readonly code: 'crash'; readonly message: string };

/** The machine as the diagnosis sees it; tests make up their own. */
export interface DiagnosisWorld {
  readonly env: Environment;
  readonly machine: Machine;
  readonly nodeVersion: string;
  /** The folder of this package. */
  readonly root: string;
  gpu(): GpuReport;
  probe(device: LibtorchDevice): ProbeOutcome;
}

/** The oldest Node.js that can run this package; package.json's `engines` says the same. */
export const minimumNode: readonly [number, number] = [20, 19];

/** The world as it is. */
export function thisDiagnosisWorld(): DiagnosisWorld {
  return {
    env: process.env,
    machine: thisMachine(),
    nodeVersion: process.versions.node,
    root: packageRoot,
    gpu: gpuReport,
    probe: probeInChild,
  };
}

/** Looks at everything, in the order in which problems build on each other. */
export function diagnose(world: DiagnosisWorld = thisDiagnosisWorld()): Finding[] {
  const platform = attempt(() => platformOf(world.machine));
  const addons = 'value' in platform ? attempt(() => findAddons(platform.value, world.root)) : undefined;
  const gpu = world.gpu();
  const device = gpu.driver === null ? 'cpu' : 'auto';
  const libtorch = attempt(() =>
    'value' in platform && addons !== undefined && 'value' in addons
      ? findNative(platform.value, { env: world.env, device, root: world.root })
      : findLibtorch({ env: world.env, version: torchVersion, device: 'cpu' }),
  );
  const findings = [
    nodeFinding(world.nodeVersion),
    platformFinding(platform, world.machine),
    cpuFinding(),
    threadsFinding(world.env),
    { name: 'Memory', state: 'ok', value: `${gigabytes(totalmem())} GB, ${gigabytes(freemem())} GB free` },
    libtorchFinding(libtorch),
    addonFinding(addons),
    gpuFinding(gpu, libtorch),
  ] satisfies Finding[];
  if (findings.some((finding) => finding.state === 'bad')) return findings;
  const usable = gpu.driver !== null && 'value' in libtorch && libtorch.value.libtorch.hasCuda;
  return [...findings, loadFinding(world.probe(usable ? 'cuda' : 'cpu'))];
}

type Attempt<T> = { readonly value: T } | { readonly error: FlatminError };

function attempt<T>(work: () => T): Attempt<T> {
  try {
    return { value: work() };
  } catch (error) {
    return {
      error: error instanceof FlatminError ? error : new FlatminError('ERR_FLATMIN_INTERNAL', String(error), error),
    };
  }
}

function nodeFinding(found: string): Finding {
  const [major = 0, minor = 0] = found.split('.').map(Number);
  const fits = major > minimumNode[0] || (major === minimumNode[0] && minor >= minimumNode[1]);
  if (fits) return { name: 'Node.js', state: 'ok', value: found };
  return { name: 'Node.js', state: 'bad', value: found, fix: `install Node.js ${minimumNode.join('.')} or later` };
}

function platformFinding(platform: Attempt<Platform>, machine: Machine): Finding {
  const libc = machine.libc === null ? '' : `, ${machine.libc} ${machine.libcVersion ?? ''}`;
  const value = `${machine.os} ${machine.arch}${libc}, ${distribution()}, kernel ${release()}`;
  if ('value' in platform) return { name: 'Platform', state: 'ok', value };
  return { name: 'Platform', state: 'bad', value, fix: platform.error.message };
}

function distribution(): string {
  try {
    return /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'unknown distribution';
  } catch {
    return 'unknown distribution';
  }
}

const interestingFeatures = ['avx2', 'fma', 'avx512f', 'avx512_bf16', 'amx_bf16'];

function cpuFinding(): Finding {
  const processors = cpus();
  const features = cpuFeatures();
  const value = `${processors[0]?.model.trim() ?? 'unknown'}, ${processors.length} processors; ${features.join(' ') || 'no vector extensions seen'}`;
  if (features.includes('avx2')) return { name: 'CPU', state: 'ok', value };
  return {
    name: 'CPU',
    state: 'note',
    value,
    fix: 'without AVX2 training works, but several times slower; in a virtual machine, pass the host CPU through',
  };
}

function cpuFeatures(): string[] {
  try {
    const flags = new Set(/^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.trim().split(' '));
    return interestingFeatures.filter((feature) => flags.has(feature));
  } catch {
    return [];
  }
}

function threadsFinding(env: Environment): Finding {
  const available = availableParallelism();
  const asked = env.OMP_NUM_THREADS;
  const value = `${available} available to this process${asked ? `, OMP_NUM_THREADS=${asked}` : ''}`;
  if (!asked || Number(asked) <= available) return { name: 'Threads', state: 'ok', value };
  return {
    name: 'Threads',
    state: 'note',
    value,
    fix: `more threads than cores slow each other down: unset OMP_NUM_THREADS or set it to ${available}`,
  };
}

function libtorchFinding(libtorch: Attempt<Found>): Finding {
  const name = 'libtorch';
  if ('error' in libtorch) return { name, state: 'bad', value: libtorch.error.message, fix: 'npx flatmin setup' };
  const { libtorch: found, source } = libtorch.value;
  return {
    name,
    state: 'ok',
    value: `${found.version} (${found.hasCuda ? 'CUDA' : 'CPU'}) in ${found.root}, from ${source}`,
  };
}

function addonFinding(addons: Attempt<readonly AddonFiles[]> | undefined): Finding {
  const name = 'Addon';
  if (addons === undefined) return { name, state: 'bad', value: 'none for this platform', fix: 'see Platform' };
  if ('error' in addons) return { name, state: 'bad', value: 'not found', fix: addons.error.message };
  const builds = addons.value.map(({ addon, libtorch }) => `${addon}, built against libtorch ${libtorch}`);
  return { name, state: 'ok', value: builds.join('\n') };
}

function gpuFinding({ driver, gpus }: GpuReport, libtorch: Attempt<Found>): Finding {
  const name = 'GPU';
  if (driver === null) return { name, state: 'ok', value: 'none with an NVIDIA driver; training runs on the CPU' };
  const list = gpus.map((gpu) => `${gpu.name} (${gpu.memory})`).join(', ');
  const value = `${list || 'NVIDIA'}, driver ${driver}`;
  if ('error' in libtorch || libtorch.value.libtorch.hasCuda) return { name, state: 'ok', value };
  return {
    name,
    state: 'note',
    value,
    fix: 'libtorch is the one for the CPU; for the GPU run: npx flatmin setup --device cuda',
  };
}

function loadFinding(outcome: ProbeOutcome): Finding {
  const name = 'Loading';
  if (outcome.ok) {
    const { torchVersion: torch, threads, cpuCapability, cudaDevices } = outcome.info;
    const { cudaLibrary, cudaLibraryProblem } = outcome.info;
    const { gpus } = outcome;
    const devices = gpus.length > 0 ? gpus.join(', ') : cudaDevices === 0 ? 'no GPU' : `GPUs: ${cudaDevices}`;
    const library = cudaLibrary === undefined ? '' : `, ${basename(cudaLibrary)}`;
    const value = `libtorch ${torch} and the addon work; ${cpuCapability}, ${threads} threads, ${devices}${library}`;
    if (cudaLibraryProblem !== undefined) {
      const fix = `steps on the GPU are slower without the CUDA library: ${cudaLibraryProblem}`;
      return { name, state: 'note', value, fix };
    }
    if (outcome.device === 'cuda' && cudaDevices === 0) {
      const fix =
        'libtorch finds no GPU that it can use: it needs driver 580 or later; CUDA_VISIBLE_DEVICES may hide GPUs';
      return { name, state: 'note', value, fix };
    }
    return { name, state: 'ok', value };
  }
  const fix =
    outcome.code === 'crash'
      ? 'the libraries do not fit this machine or are damaged: remove the libtorch folder named above and run npx flatmin setup; if that does not help, report the line above'
      : outcome.message;
  return { name, state: 'bad', value: `${outcome.code}: ${outcome.message.split('\n')[0]}`, fix };
}

function probeInChild(device: LibtorchDevice): ProbeOutcome {
  const script = join(packageRoot, 'dist', 'native', 'probe.js');
  const child = spawnSync(process.execPath, [script, device], { encoding: 'utf8', timeout: 120_000 });
  if (child.status === 0 && child.stdout.startsWith('{')) return JSON.parse(child.stdout) as ProbeReport;
  const end = child.signal === null ? `exit code ${child.status}` : `signal ${child.signal}`;
  const words = child.stderr?.trim().split('\n').at(-1) ?? '';
  return {
    ok: false,
    code: 'crash',
    message: `the process that loaded them ended with ${end}${words === '' ? '' : `: ${words}`}`,
  };
}

function gigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(1);
}
