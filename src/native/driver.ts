// Whether this machine has an NVIDIA driver, and which. Asked of the system and not of torch, because torch may not be asked
// before its CUDA part is loaded.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

const kernelModule = '/proc/driver/nvidia/version';

/** Signs of a driver: the kernel module, its device in a container, WSL's way of passing one through. */
export const driverSigns: readonly string[] = [kernelModule, '/dev/nvidiactl', '/usr/lib/wsl/lib/libcuda.so.1'];

/** True when an NVIDIA driver is there. */
export function hasNvidiaDriver(): boolean {
  return driverSigns.some((path) => existsSync(path));
}

/** GPUs as `nvidia-smi` lists them, and the driver's version; empty where there are none. */
export interface GpuReport {
  readonly driver: string | null;
  readonly gpus: readonly { readonly name: string; readonly memory: string }[];
}

/** Asks `nvidia-smi`, else reads the driver's version from /proc. */
export function gpuReport(): GpuReport {
  const asked = spawnSync('nvidia-smi', ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader'], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  if (asked.status === 0 && asked.stdout.trim() !== '') {
    const rows = asked.stdout
      .trim()
      .split('\n')
      .map((line) => line.split(',').map((field) => field.trim()));
    return { driver: rows[0]?.[2] ?? null, gpus: rows.map(([name = '?', memory = '?']) => ({ name, memory })) };
  }
  if (!existsSync(kernelModule)) return { driver: null, gpus: [] };
  return { driver: /Kernel Module\D*([\d.]+)/.exec(readFileSync(kernelModule, 'utf8'))?.[1] ?? 'unknown', gpus: [] };
}
