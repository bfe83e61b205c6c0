// What a study has found: how measures of flatness rank nets by their generalization gap, as a table and as JSON.
import { describeEnvironment } from '../../environment.js';
import type { Output } from '../output.js';
import { textTable } from '../table.js';
import { AXES, type StudyOptions, sharedSettings } from './plan.js';
import { MEASURES, type Measure, type NetRecord } from './record.js';
import {
  cellsOf,
  type Difference,
  granulated,
  granulatedDifference,
  kendallTau,
  tauDifference,
  type Value,
} from './statistics.js';

/** What measures are held against: the gap of the loss first, that of the error beside it. */
export const GAPS = ['loss', 'error'] as const;
type Gap = (typeof GAPS)[number];

/** The measure that others are compared with. */
const BASELINE: Measure = 'sharpness';

export const measureOf =
  (measure: Measure): Value =>
  (net) =>
    net.measures[measure];
export const gapOf =
  (gap: Gap): Value =>
  (net) =>
    net.gap[gap];

interface Correlation {
  readonly tau: number;
  readonly psi: Partial<Record<(typeof AXES)[number], number>>;
  readonly Psi: number;
  /** Minus those of plain sharpness, with 95 % intervals; null for plain sharpness itself. */
  readonly difference: { readonly tau: Difference; readonly Psi: Difference } | null;
}

/** What is told of a study. */
export interface StudyDocument {
  readonly settings: object;
  readonly grid: object;
  readonly environment: object;
  /** Nets that were planned, that were made, and that came to the training loss, on which all figures rest. */
  readonly planned: number;
  readonly made: number;
  readonly converged: number;
  /** Cells of the granulated coefficients, by axis: with two nets or more, and those of them that lost nets. */
  readonly cells: Readonly<Record<string, { readonly used: number; readonly incomplete: number }>>;
  readonly correlations: Readonly<Record<Gap, Readonly<Record<Measure, Correlation>>>>;
  readonly notConverged: readonly object[];
  readonly nets: readonly NetRecord[];
}

/** The JSON document. Numbers that are not known (too few nets) are null. */
export function studyDocument(planned: number, nets: readonly NetRecord[], options: StudyOptions): StudyDocument {
  const converged = nets.filter((net) => net.converged);
  const correlate = (gap: Gap) =>
    Object.fromEntries(
      MEASURES.map((measure) => [measure, correlation(converged, measure, gap, options.resamples)]),
    ) as Record<Measure, Correlation>;
  const cells = AXES.map((axis) => {
    const used = cellsOf(converged, axis);
    return [
      axis,
      { used: used.length, incomplete: used.filter((cell) => cell.nets.length < options[axis].length).length },
    ];
  });
  return {
    settings: sharedSettings(options),
    grid: { ...Object.fromEntries(AXES.map((axis) => [axis, options[axis]])), seeds: options.seeds },
    environment: describeEnvironment(),
    ...{ planned, made: nets.length, converged: converged.length, cells: Object.fromEntries(cells) },
    correlations: { loss: correlate('loss'), error: correlate('error') },
    notConverged: nets
      .filter((net) => !net.converged)
      .map(({ point, seed, epochs, train, failure }) => ({ point, seed, epochs, train, ...(failure && { failure }) })),
    nets,
  };
}

function correlation(nets: readonly NetRecord[], measure: Measure, gap: Gap, resamples: number): Correlation {
  const values = [measureOf(measure), measureOf(BASELINE), gapOf(gap)] as const;
  const { psi, Psi } = granulated(
    AXES.flatMap((axis) => cellsOf(nets, axis)),
    values[0],
    values[2],
  );
  const difference =
    measure === BASELINE
      ? null
      : { tau: tauDifference(nets, values, resamples), Psi: granulatedDifference(nets, values, resamples) };
  return { tau: kendallTau(nets, values[0], values[2]), psi, Psi, difference };
}

const NAMES: Readonly<Record<Measure, string>> = {
  sharpness: 'sharpness',
  adaptiveSharpness: 'adaptive sharpness',
  weightNorm: 'weight norm',
};

export const nameOfMeasure = (measure: Measure) => NAMES[measure];

const show = (value: number | undefined) =>
  value === undefined || Number.isNaN(value) ? '-' : `${value < 0 ? '' : '+'}${value.toFixed(3)}`;
const interval = (difference: Difference | undefined) =>
  difference === undefined ? '-' : `${show(difference.value)} [${difference.interval.map(show).join(', ')}]`;

/** Head and rows of the table for one gap, for terminal and page. */
export function correlationTable({ correlations }: StudyDocument, gap: Gap) {
  const head = [
    'measure',
    'tau',
    ...AXES.map((axis) => `psi ${axis}`),
    'Psi',
    'tau - tau(sharpness)',
    'Psi - Psi(sharpness)',
  ];
  const rows = MEASURES.map((measure) => {
    const { tau, psi, Psi, difference } = correlations[gap][measure];
    const differences = [interval(difference?.tau), interval(difference?.Psi)];
    return [NAMES[measure], show(tau), ...AXES.map((axis) => show(psi[axis])), show(Psi), ...differences];
  });
  return { head, rows };
}

/** What must be said beside the figures. */
export function remarks({ planned, made, converged, cells }: StudyDocument): string[] {
  const lost = Object.entries(cells).map(([axis, { used, incomplete }]) => `${axis} ${incomplete} of ${used}`);
  return [
    `${converged} of ${made} nets came to the training loss and are ranked${made < planned ? `; ${planned - made} of ${planned} are not made yet` : ''}.`,
    `Cells that lost nets: ${lost.join(', ')}.`,
    'In brackets: 95 % of bootstrap samples, of grid points for tau, of cells for Psi.',
  ];
}

/** Prints tables and remarks. */
export function showStudy(document: StudyDocument, output: Output): void {
  for (const gap of GAPS) {
    const { head, rows } = correlationTable(document, gap);
    output.text(`\nrank correlation with the generalization gap of the ${gap}\n${textTable(head, rows)}`);
  }
  output.text();
  for (const line of remarks(document)) output.text(line);
  for (const net of document.notConverged) output.text(`not converged: ${JSON.stringify(net)}`);
}
