// What the kernels of a training step take, from the CSV that Nsight Compute wrote of some steps:
//   node benchmarks/gpu/kernels.mjs profile.csv profile.json
// The update is what lies between the passes: norms, rounding, perturbation, descent and their books. A step has one perturbation, by
// which steps are counted.
import { readFileSync } from 'node:fs';
import { report, useDevice } from './common.mjs';

const [source, target] = process.argv.slice(2);
const NANOSECONDS = { ns: 1, nsecond: 1, us: 1e3, usecond: 1e3, ms: 1e6, msecond: 1e6, s: 1e9, second: 1e9 };
/** Structs of crates/torch-ext/cuda/kernels, by which its kernels are told apart. */
const UPDATE =
  /flatmin.*\b(Norms|FilterScales|LargestMagnitude|PowerSum|Begin|Measure|Perturb|Descent|WriteTable|Clip|Commit)\b/;

/** The fields of a line of quoted CSV. */
const fieldsOf = (line) => [...line.matchAll(/"((?:[^"]|"")*)"/g)].map(([, field]) => field.replaceAll('""', '"'));

function durations(text) {
  const lines = text.split('\n').filter((line) => line.startsWith('"'));
  const header = fieldsOf(lines[0] ?? '');
  const at = (name) => {
    const column = header.indexOf(name);
    if (column < 0) throw new Error(`${source}: no column "${name}" in ${header.join(', ') || 'it'}`);
    return column;
  };
  const [kernel, metric, unit, value] = ['Kernel Name', 'Metric Name', 'Metric Unit', 'Metric Value'].map(at);
  const rows = lines.slice(1).map(fieldsOf);
  return rows
    .filter((row) => row[metric] === 'gpu__time_duration.sum')
    .map((row) => ({ kernel: row[kernel], ns: Number(row[value].replaceAll(',', '')) * NANOSECONDS[row[unit]] }));
}

const kernels = new Map();
for (const { kernel, ns } of durations(readFileSync(source, 'utf8'))) {
  const { launches, total } = kernels.get(kernel) ?? { launches: 0, total: 0 };
  kernels.set(kernel, { launches: launches + 1, total: total + ns });
}
const steps = [...kernels].find(([name]) => /flatmin.*Perturb/.test(name))?.[1].launches ?? 0;
const perStep = (name, { total }) => ({ kernel: name, msPerStep: total / 1e6 / steps });
const all = [...kernels].map(([name, times]) => perStep(name, times)).sort((a, b) => b.msPerStep - a.msPerStep);
const sum = (list) => list.reduce((total, { msPerStep }) => total + msPerStep, 0);
const result = {
  device: 'cuda',
  steps,
  updateMs: sum(all.filter(({ kernel }) => UPDATE.test(kernel))),
  kernelMs: sum(all),
  kernels: all,
};
if (steps === 0) throw new Error(`${source}: no perturbation of flatmin's among ${kernels.size} kernels`);
await useDevice('cuda');
report(target, result);
