// The report page: what it shows, that it escapes everything, and that it needs nothing from elsewhere.
import { parseHTML } from 'linkedom';
import { describe, expect, it } from 'vitest';
import { type ReportEpoch, type ReportRun, renderReport } from '../src/report/index.js';
import { deviation, mean, percentWithDeviation, summarize } from '../src/report/statistics.js';

const HOSTILE = '<script>alert("1")</script> & \'co\'';

function epoch(number: number, accuracy: number, sharpness: number | null): ReportEpoch {
  const test = { count: 500, loss: 1 / number + 0.1, accuracy, top5: 1 };
  return {
    epoch: number,
    train: { loss: 1 / number, accuracy: accuracy + 0.05 },
    test,
    generalizationGap: 0.1,
    sharpness,
    lr: 0.1 / number,
  };
}

function run(group: string, seed: number, accuracy: number, sharpness: number | null = null): ReportRun {
  return { group, seed, seconds: 10, epochs: [epoch(1, accuracy / 2, sharpness), epoch(2, accuracy, sharpness)] };
}

const runs = [run('SGD', 1, 0.7), run('SGD', 2, 0.8), run(HOSTILE, 1, 0.9, 0.02), run(HOSTILE, 2, 0.9, 0.03)];
const page = renderReport(runs, {
  title: HOSTILE,
  summary: HOSTILE,
  options: { [HOSTILE]: HOSTILE },
  environment: { cpu: HOSTILE },
  notes: [HOSTILE],
});
const { document } = parseHTML(page);

describe('renderReport', () => {
  it('shows hostile names as text', () => {
    expect(page).not.toContain('<script');
    expect(document.querySelector('h1')?.textContent).toBe(HOSTILE);
    expect(document.querySelector('dt')?.textContent).toBe(HOSTILE);
  });

  it('refers to nothing outside itself', () => {
    expect(page).not.toMatch(/https?:/);
    expect(document.querySelectorAll('link, script, img, iframe')).toHaveLength(0);
    expect(page).not.toMatch(/@import|url\(/);
  });

  it('draws a curve for each quantity that the runs have', () => {
    const titles = [...document.querySelectorAll('figure h3')].map((title) => title.textContent);
    expect(titles).toEqual([
      'Test accuracy',
      'Training accuracy',
      'Test loss',
      'Training loss',
      'Generalization gap',
      'Step sharpness',
    ]);
  });

  it('gives each group its colour in the legend, the table and the curves', () => {
    const [first, second] = [...document.querySelectorAll('.legend .swatch')].map((chip) => chip.getAttribute('style'));
    expect(first).not.toBe(second);
    // Two thin lines and a mean for each of the two groups.
    const strokes = [...(document.querySelector('figure')?.querySelectorAll('path[stroke^="var(--series"]') ?? [])].map(
      (path) => path.getAttribute('stroke'),
    );
    expect(strokes.toSorted()).toEqual([...Array(3).fill('var(--series-0)'), ...Array(3).fill('var(--series-1)')]);
  });

  it('tells mean, deviation and seeds of each group', () => {
    const cells = [...(document.querySelector('tbody tr')?.querySelectorAll('td') ?? [])].map(
      (cell) => cell.textContent,
    );
    expect(cells).toEqual(['SGD', '75.0 ± 7.1', '80.0 ± 7.1', '10.0', '2', '1, 2']);
  });

  it('draws a run of one epoch and leaves out values that are not finite', () => {
    const first = epoch(1, 0.5, null);
    const single: ReportRun = {
      group: 'SGD',
      seed: 0,
      seconds: 1,
      epochs: [{ ...first, train: { loss: Number.NaN, accuracy: 0.5 } }],
    };
    const titles = [
      ...parseHTML(renderReport([single], { title: 'one', options: {}, environment: {} })).document.querySelectorAll(
        'figure h3',
      ),
    ];
    expect(titles.map((title) => title.textContent)).not.toContain('Training loss');
    expect(titles.map((title) => title.textContent)).toContain('Test accuracy');
  });
});

describe('statistics', () => {
  it('uses the sample deviation and none for a single value', () => {
    expect(deviation([1, 2, 3, 4])).toBeCloseTo(Math.sqrt(5 / 3), 12);
    expect(deviation([1])).toBeUndefined();
    expect(mean([1, 2, 6])).toBe(3);
    expect(percentWithDeviation([0.912])).toBe('91.2');
  });

  it('summarises the last epoch and falls back to validation', () => {
    const { test: _, ...rest } = epoch(3, 0.6, null);
    const [summary] = summarize([
      {
        group: 'SAM',
        seed: 4,
        seconds: 2,
        epochs: [epoch(1, 0.1, null), { ...rest, validation: { count: 9, loss: 1, accuracy: 0.55, top5: 1 } }],
      },
    ]);
    expect(summary).toMatchObject({ group: 'SAM', seeds: [4], split: 'validation', heldOut: [0.55] });
  });
});
