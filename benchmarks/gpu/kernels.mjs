// What the kernels of a training step take, from the CSV that Nsight Compute wrote of some steps:
//   node benchmarks/gpu/kernels.mjs profile.csv --out profile.json
//   node benchmarks/gpu/kernels.mjs --pattern        the kernels of the update, for ncu's --kernel-name
// A step is what lies between one perturbation and the next. The update is what lies between its passes: norms, rounding, perturbation,
// descent and their books.
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { report, useDevice } from './common.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    device: { type: 'string', default: 'cuda' },
    pattern: { type: 'boolean', default: false },
    out: { type: 'string', default: 'profile.json' },
  },
});
const [source] = positionals;
const NANOSECONDS = { ns: 1, nsecond: 1, us: 1e3, usecond: 1e3, ms: 1e6, msecond: 1e6, s: 1e9, second: 1e9 };
/** Structs of crates/torch-ext/cuda/kernels, by which its kernels are told apart. */
const UPDATE =
  /flatmin.*(Norms|FilterScales|LargestMagnitude|PowerSum|Begin|Measure|Perturb|Descent|WriteTable|Clip|Commit)/;
const PERTURBATION = /flatmin.*Perturb/;

/** The fields of a line of quoted CSV. */
const fieldsOf = (line) => [...line.matchAll(/"((?:[^"]|"")*)"/g)].map(([, field]) => field.replaceAll('""', '"'));

/** The kernels in the order of their launches. */
function launchesIn(text) {
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

/**
 * The whole steps among them. The first ones are left out as long as they launch more or less than the last: there, cuDNN still tries
 * its algorithms.
 */
function wholeSteps(launches) {
  const marks = launches.flatMap(({ kernel }, index) => (PERTURBATION.test(kernel) ? [index] : []));
  const steps = marks.slice(1).map((end, step) => launches.slice(marks[step], end));
  if (steps.length === 0)
    throw new Error(
      `${source}: no whole step: ${marks.length} perturbations of flatmin's in ${launches.length} launches`,
    );
  return steps.slice(steps.findLastIndex(({ length }) => length !== steps.at(-1).length) + 1);
}

async function profile() {
  const steps = wholeSteps(launchesIn(readFileSync(source, 'utf8')));
  const times = new Map();
  for (const { kernel, ns } of steps.flat()) times.set(kernel, (times.get(kernel) ?? 0) + ns);
  const perStep = [...times].map(([kernel, ns]) => ({ kernel, msPerStep: ns / 1e6 / steps.length }));
  const sum = (list) => list.reduce((total, { msPerStep }) => total + msPerStep, 0);
  await useDevice(values.device);
  report(values.out, {
    device: values.device,
    steps: steps.length,
    launchesPerStep: steps[0].length,
    updateMs: sum(perStep.filter(({ kernel }) => UPDATE.test(kernel))),
    kernelMs: sum(perStep),
    kernels: perStep.sort((a, b) => b.msPerStep - a.msPerStep),
  });
}

if (values.pattern) process.stdout.write(`${UPDATE.source}\n`);
else await profile();
