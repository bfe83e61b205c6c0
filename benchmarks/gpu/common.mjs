// What the measuring scripts share: the library as it is built, the device, images of noise, and the file of the result.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

export const flatmin = await import('../../dist/index.js');
const { describeEnvironment } = await import('../../dist/environment.js');

/** Loads the native side for a device, with libtorch's switches there. What it gives belongs into the options of a Trainer. */
export async function useDevice(device, cuda = {}) {
  if (device === 'cpu') return {};
  await flatmin.load({ device, cuda });
  return { device };
}

/** Images of noise with random labels, [count, side, side, 3], ten classes. */
export function noise(count, side = 32) {
  let state = 1;
  const draw = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 24;
  };
  const images = Uint8Array.from({ length: count * side * side * 3 }, draw);
  const labels = Uint32Array.from({ length: count }, () => draw() % 10);
  return flatmin.datasets.fromArrays({ images, labels, shape: [side, side, 3], numClasses: 10, name: 'noise' });
}

/** Writes a result with what it was measured on, if there is a path, and shows it. */
export function report(path, result) {
  const document = { ...result, date: new Date().toISOString(), environment: describeEnvironment() };
  if (path !== undefined) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${JSON.stringify(document, undefined, 2)}\n`);
  }
  process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
}
