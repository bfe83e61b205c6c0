// What a figure was measured on: hardware, versions and threads, for reports and benches.
import { cpus, type as osType, release, totalmem } from 'node:os';
import { type Device, settleDevice } from './device.js';
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
  /** Name and memory of the GPU, where one is used and the CUDA library can tell. */
  readonly gpu?: string;
}

/** Describes this machine, the loaded native side and the device: that on which models live that name none, unless told otherwise. */
export function describeEnvironment(device: Device = settleDevice()): Environment {
  const native = loadNative();
  const info = native.info();
  const gpu = device === 'cpu' ? null : native.gpu(Number(device.slice('cuda:'.length)));
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
    ...(gpu !== null && { gpu }),
  };
}
