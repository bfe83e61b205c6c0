// Which native builds exist, and what to tell everybody else.
// The loader asks here before it touches a file, so an unsupported machine gets one clear error and not a linker's message.

import { familySync, GLIBC, versionSync } from 'detect-libc';
import { FlatminError } from '../errors.js';

/** What decides which binaries can run here. */
export interface Machine {
  readonly os: string;
  readonly arch: string;
  /** 'glibc', 'musl', or null where that question makes no sense. */
  readonly libc: string | null;
  readonly libcVersion: string | null;
}

/** A platform with a build: the names of its files and of its npm package. */
export interface Platform {
  readonly key: string;
  readonly packageName: string;
  readonly addon: string;
  readonly preload: string;
}

/** The oldest glibc that libtorch's Linux builds run on. */
export const minimumGlibc = '2.28';

const linuxX64: Platform = {
  key: 'linux-x64-gnu',
  packageName: 'flatmin-linux-x64-gnu',
  addon: 'flatmin.linux-x64-gnu.node',
  preload: 'preload.linux-x64-gnu.node',
};

/** The machine this process runs on. */
export function thisMachine(): Machine {
  return { os: process.platform, arch: process.arch, libc: familySync(), libcVersion: versionSync() };
}

/**
 * The build for a machine.
 * @throws `ERR_FLATMIN_PLATFORM` saying what can be done where there is none.
 */
export function platformOf(machine: Machine): Platform {
  const problem = problemOf(machine);
  if (problem === undefined) return linuxX64;
  const found = [
    machine.os,
    machine.arch,
    machine.libc === GLIBC ? `glibc ${machine.libcVersion ?? '?'}` : machine.libc,
  ];
  throw new FlatminError(
    'ERR_FLATMIN_PLATFORM',
    `flatmin has no native build for ${found.filter(Boolean).join(' ')}; it needs Linux x64 with glibc >= ${minimumGlibc}. ${problem}`,
  );
}

function problemOf(machine: Machine): string | undefined {
  const container = 'a container from a glibc image such as node:22-bookworm (--platform linux/amd64)';
  if (machine.os === 'darwin') {
    return machine.arch === 'arm64'
      ? `On an Apple silicon Mac, run it in ${container}, or on a Linux x64 machine.`
      : 'PyTorch stopped building for Intel Macs; run it on a Linux x64 machine.';
  }
  if (machine.os === 'win32') return 'On Windows, run it inside WSL 2 with Node.js installed there.';
  if (machine.os !== 'linux' || machine.arch !== 'x64') return `Run it on a Linux x64 machine or in ${container}.`;
  if (machine.libc !== GLIBC) return `libtorch is not built for musl (Alpine); use ${container}.`;
  if (machine.libcVersion !== null && olderThan(machine.libcVersion, minimumGlibc)) {
    return `Use a newer distribution (Debian 10, Ubuntu 20.04, RHEL 8 or later), or ${container}.`;
  }
  return undefined;
}

function olderThan(version: string, minimum: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [minimumMajor = 0, minimumMinor = 0] = minimum.split('.').map(Number);
  return major < minimumMajor || (major === minimumMajor && minor < minimumMinor);
}
