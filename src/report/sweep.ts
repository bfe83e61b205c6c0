// The plot of a sweep: accuracy over the values of one option, a line with its band for each optimizer.
import * as Plot from '@observablehq/plot';
import { curveMarks, drawChart, type Point, pointAt, strokeOf } from './charts.js';
import type { Html } from './escape.js';
import type { ReportSweep } from './types.js';

/** From this ratio of the largest to the smallest value on, the axis is logarithmic. */
const LOGARITHMIC = 8;

/** Draws accuracy over the swept values; series without the option are dashed levels. */
export function drawSweep({ option, lines }: ReportSweep): Html {
  const values = [...new Set(lines.flatMap(({ points }) => points.map(({ value }) => value)))];
  const numeric = values.every((value) => typeof value === 'number');
  const series = lines.map(({ points }) =>
    points.map(({ value, accuracy }) => pointAt(numeric ? Number(value) : String(value), accuracy, 100)),
  );
  if (numeric) for (const points of series) points.sort((a, b) => Number(a.x) - Number(b.x));
  const levels = lines.flatMap(({ level }, index) =>
    level === undefined ? [] : levelMarks(pointAt(0, level, 100), index),
  );
  return drawChart({
    ...{ title: `Test accuracy over ${option}`, width: 980, height: 360 },
    x: {
      axis: null,
      inset: 14,
      ...(numeric ? { type: scaleOf(values.map(Number)) } : { type: 'point', domain: values.map(String) }),
    },
    y: { label: 'test accuracy (%)', nice: true },
    marks: [
      ...valueAxis(option, numeric ? values.map(Number) : values.map(String)),
      ...levels,
      ...series.flatMap((points, index) => curveMarks(points, index, true)),
    ],
  });
}

function scaleOf(values: readonly number[]): 'log' | 'linear' {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low > 0 && high / low >= LOGARITHMIC ? 'log' : 'linear';
}

/** An axis with a label at each swept value; a logarithmic scale would label some of them only. */
const valueAxis = (label: string, values: readonly (number | string)[]): Plot.Markish[] => [
  Plot.gridX(values),
  Plot.axisX(values, { text: String, label }),
];

function levelMarks({ mean, low, high }: Point, index: number): Plot.Markish[] {
  const { stroke } = strokeOf(index);
  const band = Plot.rectY([{ low, high }], { y1: 'low', y2: 'high', fill: stroke, fillOpacity: 0.1 });
  return [...(high > low ? [band] : []), Plot.ruleY([mean], { stroke, strokeWidth: 2, strokeDasharray: '5 4' })];
}
