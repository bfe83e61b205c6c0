// What `flatmin doctor` prints: every finding on a line of its own, and below each that is not well the way to mend it.

import { type DiagnosisWorld, diagnose, type Finding, thisDiagnosisWorld } from '../native/diagnose.js';
import type { Output } from './output.js';

/** The document that `flatmin doctor --json` prints. */
export interface DoctorReport {
  /** False when training would fail. */
  readonly ok: boolean;
  readonly findings: readonly Finding[];
}

const signs = { ok: ' ok ', note: 'note', bad: 'BAD ' } as const;

/** Examines the machine and prints what it found; the command's exit code is 1 when `ok` is false. */
export async function runDoctor(
  _options: object,
  io: Output,
  world: DiagnosisWorld = thisDiagnosisWorld(),
): Promise<DoctorReport> {
  const findings = diagnose(world);
  const report = { ok: findings.every((finding) => finding.state !== 'bad'), findings };
  const width = Math.max(...findings.map((finding) => finding.name.length));
  for (const { name, state, value, fix } of findings) {
    io.text(`${signs[state]}  ${name.padEnd(width)}  ${indented(value, width)}`);
    if (fix !== undefined) io.text(`      ${' '.repeat(width)}  -> ${indented(fix, width)}`);
  }
  io.text(report.ok ? '\nTraining will work here.' : '\nTraining would fail; mend what is marked BAD.');
  io.document(report);
  return report;
}

/** Keeps further lines of a text in the column of the first. */
function indented(text: string, width: number): string {
  return text.replaceAll('\n', `\n${' '.repeat(width + 8)}`);
}
