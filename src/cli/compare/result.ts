// What a comparison has found, as the same figures in three forms: a table for the terminal, a JSON document and a page.

import { describeEnvironment } from '../../environment.js';
import { type Spread, spread, summarize } from '../../report/statistics.js';
import type { ReportMeta, ReportSweep, SweepLine } from '../../report/types.js';
import { planOptimizer, type Values } from '../optimizers.js';
import type { Output } from '../output.js';
import { comparisonTable } from '../table.js';
import { type ComparisonPlan, type Setting, withOptions } from './plan.js';
import type { Outcome } from './runs.js';

/** Words about a comparison. */
export interface Heading {
  readonly title: string;
  readonly summary?: string;
  /** Settings that all runs share. */
  readonly shared: Values;
  readonly notes: readonly string[];
}

const numbers = ({ n, mean, sd, values }: Spread) => ({ n, mean, sd: sd ?? null, values });

/** The first plain SGD: what times are relative to. */
const referenceOf = ({ settings }: ComparisonPlan) => settings.find(({ optimizer }) => optimizer === 'sgd')?.name;

function settingOf({ settings }: ComparisonPlan, name: string): Setting {
  return settings.find((setting) => setting.name === name) as Setting;
}

/** The JSON document. Accuracies are fractions, times seconds; `sd` is null for a single run. */
export function comparisonDocument(plan: ComparisonPlan, outcome: Outcome, shared: Values): object {
  const reference = referenceOf(plan);
  const groups = summarize(outcome.runs, reference).map((summary) => {
    const { optimizer, given, swept } = settingOf(plan, summary.group);
    const { group, seeds, epochs, relativeTime } = summary;
    return {
      ...{ name: group, optimizer, options: given, swept, seeds, n: seeds.length, epochs },
      ...{ testAccuracy: numbers(summary.accuracy), testLoss: numbers(summary.loss) },
      ...{ generalizationGap: numbers(summary.gap), trainAccuracy: numbers(summary.trainAccuracy) },
      ...{ secondsPerEpoch: numbers(summary.secondsPerEpoch), imagesPerSecond: numbers(summary.imagesPerSecond) },
      ...{ seconds: numbers(summary.seconds), relativeTime: relativeTime ?? null },
    };
  });
  return {
    complete: outcome.runs.length === plan.runs.length,
    settings: shared,
    environment: describeEnvironment(),
    reference: reference ?? null,
    groups,
    sweeps: sweepsOf(plan, outcome).map(({ option, lines }) => ({
      option,
      lines: lines.map(({ name, points, level }) => ({
        name,
        points: points.map(({ value, accuracy }) => ({ value, testAccuracy: numbers(accuracy) })),
        ...(level !== undefined && { testAccuracy: numbers(level) }),
      })),
    })),
    runs: outcome.runs.map(({ group, seed, epochs, plan: { runDir } }) => {
      const { train, test, generalizationGap } = epochs.at(-1) ?? {};
      return { group, seed, runDir: runDir ?? null, epochs: epochs.length, train, test, generalizationGap };
    }),
    failures: outcome.failures,
  };
}

/** Accuracy of a setting's runs after their last epoch. */
const accuracyOf = ({ name }: Setting, { runs }: Outcome, split: 'test' | 'validation') =>
  spread(runs.filter(({ group }) => group === name).flatMap(({ epochs }) => epochs.at(-1)?.[split]?.accuracy ?? []));

/** One sweep for each swept option: a line for every optimizer with its other options settled. */
function sweepsOf({ settings, sweptOptions }: ComparisonPlan, outcome: Outcome): ReportSweep[] {
  const withResult = settings.filter((setting) => accuracyOf(setting, outcome, 'test').n > 0);
  return sweptOptions.map((option) => {
    const lines = new Map<string, SweepLine>();
    for (const setting of withResult) {
      const { [option]: value, ...others } = setting.swept;
      const accuracy = accuracyOf(setting, outcome, 'test');
      const name = withOptions(setting.family, others);
      if (value === undefined) lines.set(name, { name, points: [], level: accuracy });
      else lines.set(name, { name, points: [...(lines.get(name)?.points ?? []), { value, accuracy }] });
    }
    return { option, lines: [...lines.values()] };
  });
}

/** The settings whose curves are drawn: all, or with sweeps the best of each optimizer on the split `by`. */
function drawnGroups({ settings }: ComparisonPlan, outcome: Outcome, by: 'test' | 'validation'): string[] {
  const found = settings.filter(({ name }) => outcome.runs.some(({ group }) => group === name));
  const mean = (setting: Setting) => accuracyOf(setting, outcome, by).mean;
  const best = new Map<string, Setting>();
  for (const setting of found) {
    const rival = best.get(setting.family);
    if (rival === undefined || mean(setting) > mean(rival)) best.set(setting.family, setting);
  }
  return [...best.values()].map(({ name }) => name);
}

/** The page as HTML. */
export async function comparisonPage(plan: ComparisonPlan, outcome: Outcome, heading: Heading): Promise<string> {
  // Loaded only when needed: the plotting library would double the start of every command.
  const { renderReport } = await import('../../report/index.js');
  const reference = referenceOf(plan);
  const by = outcome.runs.some(({ plan: { options } }) => options.validation > 0) ? 'validation' : 'test';
  const drawn = drawnGroups(plan, outcome, by);
  const swept = plan.sweptOptions.length > 0;
  const meta: ReportMeta = {
    title: heading.title,
    ...(heading.summary !== undefined && { summary: heading.summary }),
    options: {
      ...heading.shared,
      ...Object.fromEntries(
        plan.settings
          .filter(({ name }) => drawn.includes(name))
          .map((setting) => [setting.name, settingsOf(plan, setting)]),
      ),
    },
    environment: { ...describeEnvironment() },
    notes: [
      ...heading.notes,
      ...(swept ? [`Curves show each optimizer at the swept values with the highest mean ${by} accuracy.`] : []),
      ...missing(plan, outcome),
    ],
    ...(reference !== undefined && { reference }),
    ...{ sweeps: sweepsOf(plan, outcome), drawn },
  };
  return renderReport(outcome.runs, meta);
}

/** All settings of an optimizer, defaults included. */
function settingsOf({ runs }: ComparisonPlan, setting: Setting): Values {
  const run = runs.find((planned) => planned.setting === setting);
  return run === undefined ? {} : planOptimizer(run.options).settings;
}

/** What the table lacks, in words. */
function missing({ runs }: ComparisonPlan, outcome: Outcome): string[] {
  const unfinished = runs.length - outcome.runs.length - outcome.failures.length;
  return [
    ...(unfinished > 0 ? [`${unfinished} of ${runs.length} runs are not finished.`] : []),
    ...outcome.failures.map(({ group, seed, message }) => `${group}, seed ${seed} failed: ${message}`),
  ];
}

/** Prints the table and what belongs under it. */
export function showTable(plan: ComparisonPlan, outcome: Outcome, output: Output): void {
  output.text(`\n${comparisonTable(outcome.runs, referenceOf(plan))}\n`);
  output.text('mean ± standard deviation over n seeds, after the last epoch');
  for (const line of missing(plan, outcome)) output.text(line);
}
