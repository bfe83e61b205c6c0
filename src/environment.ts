// What a figure was measured on: hardware, versions and threads, for reports and benches.
import { cpus, type as osType, release, totalmem } from 'node:os';
import { loadNative } from './native/index.js';

/** Hardware and versions, as they are written into run folders, reports and results. */
export interface Environment {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly os: string;
  readonly node: string;
  readonly flatmin: string;
  readonly torch: string;
  readonly cpuCapability: string;
  readonly threads: number;
  /** GPUs that libtorch can use, where it was loaded for them. */
  readonly gpu?: string;
}

/** Describes this machine and the loaded native side. */
export function describeEnvironment(): Environment {
  const info = loadNative().info();
  const processors = cpus();
  return {
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    memoryGiB: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    os: `${osType()} ${release()} ${process.arch}`,
    node: process.version,
    flatmin: info.addonVersion,
    torch: info.torchVersion,
    cpuCapability: info.cpuCapability,
    threads: info.threads,
    ...(info.gpus.length > 0 && { gpu: info.gpus.join(', ') }),
  };
}
