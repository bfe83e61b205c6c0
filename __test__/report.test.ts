// The report page: what it shows, that it escapes everything, and that it needs nothing from elsewhere.
import { parseHTML } from 'linkedom';
import { describe, expect, it } from 'vitest';
import { type ReportEpoch, type ReportRun, renderReport } from '../src/report/index.js';
import { deviation, mean, median, spread, spreadText, summarize } from '../src/report/statistics.js';

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
    seconds: 2 * number,
    imagesPerSecond: 100 / number,
  };
}

function run(group: string, seed: number, accuracy: number, sharpness: number | null = null): ReportRun {
  return { group, seed, epochs: [epoch(1, accuracy / 2, sharpness), epoch(2, accuracy, sharpness)] };
}

const runs = [run('SGD', 1, 0.7), run('SGD', 2, 0.8), run(HOSTILE, 1, 0.9, 0.02), run(HOSTILE, 2, 0.9, 0.03)];
const page = renderReport(runs, {
  title: HOSTILE,
  summary: HOSTILE,
  reference: 'SGD',
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
      'Learning rate',
      'Throughput',
    ]);
  });

  it('gives each group its colour in the legend, the table and the curves', () => {
    const [first, second] = [...document.querySelectorAll('.legend .swatch')].map((chip) => chip.getAttribute('style'));
    expect(first).not.toBe(second);
    // A mean for each group; the seeds of the second agree, so it has no band.
    const figure = document.querySelector('figure');
    const colours = (attribute: string) =>
      [...(figure?.querySelectorAll(`[${attribute}^="var(--series"]`) ?? [])].map((mark) =>
        mark.getAttribute(attribute),
      );
    expect(colours('stroke')).toEqual(['var(--series-0)', 'var(--series-1)']);
    expect(colours('fill')).toEqual(['var(--series-0)']);
  });

  it('tells mean and deviation of each group, and times relative to the reference', () => {
    const cells = [...(document.querySelector('tbody tr')?.querySelectorAll('td') ?? [])].map(
      (cell) => cell.textContent,
    );
    // The last epoch of each run; times are medians of 2 and 4 seconds.
    expect(cells).toEqual([
      'SGD',
      '75.00 ± 7.07',
      '0.600 ± 0.000',
      '0.100 ± 0.000',
      '80.00 ± 7.07',
      '2',
      '3.00 ± 0.00',
      '75 ± 0',
      '1.00',
      '2',
    ]);
  });

  it('draws a sweep with a line for each optimizer and a level for one that was not swept', () => {
    const accuracy = spread([0.8, 0.9]);
    const swept = renderReport(runs, {
      ...{ title: 'sweep', options: {}, environment: {}, drawn: ['SGD'] },
      sweeps: [
        {
          option: 'rho',
          lines: [
            { name: 'SGD', points: [], level: accuracy },
            { name: HOSTILE, points: [0.05, 0.1, 1].map((value) => ({ value, accuracy })) },
          ],
        },
      ],
    });
    const figure = parseHTML(swept).document.querySelector('figure');
    expect(figure?.querySelector('h3')?.textContent).toBe('Test accuracy over rho');
    const labels = [...(figure?.querySelectorAll('text') ?? [])].map((text) => text.textContent);
    expect(labels).toEqual(expect.arrayContaining(['0.05', '0.1', '1']));
    expect(figure?.querySelectorAll('circle')).toHaveLength(3);
    expect(swept).not.toContain('<script');
  });

  it('draws a run of one epoch and leaves out values that are not finite', () => {
    const first = epoch(1, 0.5, null);
    const single: ReportRun = {
      group: 'SGD',
      seed: 0,
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
    expect([median([3, 1, 2]), median([4, 1, 3, 2])]).toEqual([2, 2.5]);
    expect(spreadText(spread([0.912]), 1, 100)).toBe('91.2');
    expect(spreadText(spread([1, 3]), 2)).toBe('2.00 ± 1.41');
    expect(spreadText(spread([]), 2)).toBe('-');
  });

  it('summarises the last epoch and falls back to validation', () => {
    const { test: _, ...rest } = epoch(3, 0.6, null);
    const [summary] = summarize([
      {
        group: 'SAM',
        seed: 4,
        epochs: [epoch(1, 0.1, null), { ...rest, validation: { count: 9, loss: 1, accuracy: 0.55, top5: 1 } }],
      },
    ]);
    expect(summary).toMatchObject({
      ...{ group: 'SAM', seeds: [4], split: 'validation', epochs: 2, relativeTime: undefined },
      accuracy: { n: 1, mean: 0.55, values: [0.55] },
    });
  });
});
