/// <reference lib="dom" />
// The dashboard in the browser. It keeps the events of the run, and draws from them after each message: nothing is
// remembered elsewhere, so a reload shows the same. Compiled, it stands in the page as text: it can import types only.
import type UPlot from 'uplot';
import type {
  EndEvent,
  EpochEvent,
  Evaluation,
  FailureEvent,
  RecordedEvent,
  StartEvent,
  StepEvent,
} from '../../events.js';
import type { Update } from './feed.js';

declare const uPlot: typeof UPlot;

/** What is known of the run. Numbers that were not finite are null here, and gaps in the curves. */
interface Run {
  start: StartEvent | undefined;
  end: EndEvent | FailureEvent | undefined;
  epochs: EpochEvent[];
  steps: StepEvent[];
  log: { text: string; kind: 'plain' | 'minor' | 'warning' }[];
}

const empty = (): Run => ({ start: undefined, end: undefined, epochs: [], steps: [], log: [] });

let run = empty();
let connection: 'connecting' | 'open' | 'lost' | 'over' = 'connecting';
let stopRequested = false;
/** When the run last wrote something, in milliseconds since 1970. */
let updated = Number.POSITIVE_INFINITY;
/** Whether its process is gone. */
let cutOff = false;

type Value = number | null | undefined;

function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page lacks #${id}`);
  return found as T;
}

const digits = (value: Value, count: number) => (typeof value === 'number' ? value.toFixed(count) : '-');
const percent = (value: Value) => (typeof value === 'number' ? `${(100 * value).toFixed(2)} %` : '-');
const short = (value: Value) => (typeof value === 'number' ? Number(value.toPrecision(4)).toString() : '-');
/** For legends, which keep room for so much. */
const brief = (value: number) => Number(value.toPrecision(Math.abs(value) < 1 ? 3 : 4)).toString();
const whole = (value: number) => value.toLocaleString('en');

function clock(seconds: number): string {
  const total = Math.max(0, Math.round(seconds));
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const two = (value: number) => String(value).padStart(2, '0');
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** As a clock; short times with a tenth of a second. */
const duration = (seconds: number) => (seconds < 60 ? `${seconds.toFixed(1)} s` : clock(seconds));

/** The split that was not trained on and is shown first. */
const heldOut = (epoch: EpochEvent | undefined): { name: string; scores: Evaluation } | undefined => {
  if (epoch?.test) return { name: 'test', scores: epoch.test };
  return epoch?.validation && { name: 'validation', scores: epoch.validation };
};

// --- What came in

function add(update: Update): void {
  const { kind, events, steps } = update;
  if (kind === 'all') run = empty();
  updated = update.updated ?? updated;
  cutOff = update.cutOff;
  for (const event of events as unknown as RecordedEvent[]) {
    if (event.type === 'start') [run.start, run.end] = [event, undefined];
    else if (event.type === 'end') run.end = event;
    else if (event.type === 'epoch') run.epochs.push(event);
    run.log.push({ text: logLine(event), kind: kindOf(event) });
  }
  run.steps.push(...(steps as unknown as StepEvent[]));
}

function kindOf(event: RecordedEvent): Run['log'][number]['kind'] {
  if ('warning' in event || 'error' in event) return 'warning';
  return event.type === 'checkpoint' ? 'minor' : 'plain';
}

function logLine(event: RecordedEvent): string {
  switch (event.type) {
    case 'start': {
      const from = event.resumedFrom === null ? 'started' : `went on from ${event.resumedFrom}`;
      return `${from}: ${whole(event.parameters)} parameters, ${event.epochs} epochs, ${whole(event.steps)} steps, seed ${event.seed}`;
    }
    case 'epoch':
      return epochLine(event);
    case 'checkpoint':
      return `checkpoint ${event.kind}: ${event.path}`;
    default:
      if (event.reason === 'failed') return `failed: ${event.error.code}: ${event.error.message}`;
      return `${event.reason} after ${event.result.epochs} epochs, ${duration(event.result.seconds)}`;
  }
}

function epochLine(event: EpochEvent): string {
  const scores = (name: string, { loss, accuracy }: { loss: number; accuracy: number }) =>
    `${name} ${digits(loss, 4)} / ${percent(accuracy)}`;
  return [
    `epoch ${event.epoch}`,
    scores('train', event.train),
    ...(event.validation ? [scores('validation', event.validation)] : []),
    ...(event.test ? [scores('test', event.test)] : []),
    ...(event.sharpness === null ? [] : [`sharpness ${digits(event.sharpness, 4)}`]),
    `${event.imagesPerSecond.toFixed(0)} img/s`,
    duration(event.seconds),
    ...(event.warning === undefined ? [] : [`warning: ${event.warning}`]),
  ].join('  ');
}

// --- Charts

interface Curve {
  readonly label: string;
  /** Number of the series colour. */
  readonly colour: number;
  readonly points: () => [epoch: number, value: Value][];
  /** Single steps: thin and pale, behind the means of epochs. */
  readonly faint?: boolean;
  /** Measured on an axis of its own, at the right. */
  readonly right?: boolean;
}

interface ChartSpec {
  readonly title: string;
  readonly curves: readonly Curve[];
}

const ofSteps = (value: (event: StepEvent) => Value) => (): [number, Value][] => {
  const perEpoch = run.start?.stepsPerEpoch ?? 1;
  return run.steps.map((event) => [event.step / perEpoch, value(event)]);
};
const ofEpochs = (value: (event: EpochEvent) => Value) => (): [number, Value][] =>
  run.epochs.map((event) => [event.epoch, value(event)]);
const inPercent = (value: Value) => (typeof value === 'number' ? 100 * value : null);

const CHARTS: readonly ChartSpec[] = [
  {
    title: 'Loss',
    curves: [
      { label: 'step', colour: 6, faint: true, points: ofSteps(({ loss }) => loss) },
      { label: 'train', colour: 0, points: ofEpochs(({ train }) => train.loss) },
      { label: 'validation', colour: 2, points: ofEpochs(({ validation }) => validation?.loss) },
      { label: 'test', colour: 1, points: ofEpochs(({ test }) => test?.loss) },
    ],
  },
  {
    title: 'Accuracy, %',
    curves: [
      { label: 'train', colour: 0, points: ofEpochs(({ train }) => inPercent(train.accuracy)) },
      { label: 'validation', colour: 2, points: ofEpochs(({ validation }) => inPercent(validation?.accuracy)) },
      { label: 'test', colour: 1, points: ofEpochs(({ test }) => inPercent(test?.accuracy)) },
    ],
  },
  {
    title: 'Step sharpness: loss(w + eps) - loss(w)',
    curves: [
      { label: 'step', colour: 6, faint: true, points: ofSteps(({ sharpness }) => sharpness) },
      { label: 'mean of the epoch', colour: 3, points: ofEpochs(({ sharpness }) => sharpness) },
    ],
  },
  {
    title: 'Generalization gap: held-out loss - training loss',
    curves: [{ label: 'gap', colour: 1, points: ofEpochs(({ generalizationGap }) => generalizationGap) }],
  },
  {
    title: 'Throughput, images per second',
    curves: [
      { label: 'mean of the epoch so far', colour: 2, points: ofSteps(({ imagesPerSecond }) => imagesPerSecond) },
    ],
  },
  {
    title: 'Learning rate and rho',
    curves: [
      { label: 'learning rate', colour: 0, points: ofSteps(({ lr }) => lr) },
      { label: 'rho (right)', colour: 1, right: true, points: ofSteps(({ rho }) => rho) },
    ],
  },
];

const HEIGHT = 240;
const colourOf = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A chart on the page; it is made anew when curves appear in it or the colours change. */
class Chart {
  readonly #spec: ChartSpec;
  readonly #card = document.createElement('div');
  #plot: UPlot | undefined;
  #drawn = '';

  constructor(spec: ChartSpec) {
    this.#spec = spec;
    this.#card.className = 'card';
    const title = document.createElement('h2');
    title.textContent = spec.title;
    this.#card.append(title);
    element('charts').append(this.#card);
    new ResizeObserver(() => this.#plot?.setSize({ width: this.#width(), height: HEIGHT })).observe(this.#card);
  }

  draw(): void {
    const curves = this.#spec.curves
      .map((curve) => ({ curve, points: curve.points() }))
      .filter(({ points }) => points.some(([, value]) => typeof value === 'number'));
    this.#card.hidden = curves.length === 0;
    if (curves.length === 0) return;
    const tables = curves.map(
      ({ points }): UPlot.AlignedData => [points.map(([x]) => x), points.map(([, value]) => value ?? null)],
    );
    const data = uPlot.join(tables);
    const kept = curves.map(({ curve }) => curve);
    const drawn = kept.map(({ label }) => label).join();
    if (this.#plot !== undefined && drawn === this.#drawn) this.#plot.setData(data);
    else this.#make(kept, data, drawn);
  }

  forget(): void {
    this.#plot?.destroy();
    this.#plot = undefined;
  }

  #make(curves: readonly Curve[], data: UPlot.AlignedData, drawn: string): void {
    this.forget();
    this.#drawn = drawn;
    const [muted, line] = [colourOf('--muted'), colourOf('--line')];
    const axis = { stroke: muted, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
    const values: UPlot.Axis.DynamicValues = (_, ticks) => ticks.map(short);
    const options: UPlot.Options = {
      ...{ width: this.#width(), height: HEIGHT, padding: [8, 8, 0, 0] },
      scales: { x: { time: false, range: () => [0, Math.max(position(), 0.1)] }, right: {} },
      axes: [
        { ...axis, size: 28 },
        { ...axis, size: 56, values },
        ...(curves.some(({ right }) => right)
          ? [{ ...axis, grid: { show: false }, scale: 'right', side: 1, size: 56, values }]
          : []),
      ],
      series: [
        { label: 'epoch', value: (_, value) => (value === null ? '' : digits(value, 2)) },
        ...curves.map((curve) => seriesOf(curve)),
      ],
      cursor: { sync: { key: 'run' }, drag: { x: true, y: false } },
    };
    this.#plot = new uPlot(options, data, this.#card);
  }

  #width(): number {
    const { paddingLeft, paddingRight } = getComputedStyle(this.#card);
    return Math.max(200, this.#card.clientWidth - Number.parseFloat(paddingLeft) - Number.parseFloat(paddingRight));
  }
}

function seriesOf({ label, colour, faint = false, right = false }: Curve): UPlot.Series {
  const stroke = colourOf(`--series-${colour}`);
  return {
    ...(right && { scale: 'right' }),
    ...{ label, stroke: faint ? `${stroke}88` : stroke, width: faint ? 1 : 2, spanGaps: true },
    points: { show: (plot, index) => !faint && pointsOf(plot, index) < 40, size: 5, fill: stroke },
    value: (_, value) => (value === null ? '' : brief(value)),
  };
}

const pointsOf = (plot: UPlot, index: number) =>
  Array.from(plot.data[index] ?? []).filter((value) => value != null).length;

// --- The page

function state(): string {
  if (run.end !== undefined) return run.end.reason;
  if (connection !== 'open') return connection === 'connecting' ? 'connecting' : 'disconnected';
  if (cutOff) return 'cut off';
  if (stopRequested) return 'stopping';
  return run.start === undefined ? 'waiting' : 'training';
}

function tile(id: string, value: string, detail = ''): void {
  const [strong, small] = ['strong', '.detail'].map((selector) => element(id).querySelector(selector));
  if (strong) strong.textContent = value;
  if (small) small.textContent = detail;
}

function drawTiles(): void {
  const [epoch, step] = [run.epochs.at(-1), run.steps.at(-1)];
  const held = heldOut(epoch);
  tile('loss', digits(step?.loss, 4), epoch && `last epoch ${digits(epoch.train.loss, 4)}`);
  const accuracy = held?.scores.accuracy ?? step?.accuracy;
  tile(
    'accuracy',
    percent(accuracy),
    held ? `${held.name}, train ${percent(epoch?.train.accuracy)}` : 'of the last batch',
  );
  tile('gap', digits(epoch?.generalizationGap, 4), held && `${held.name} loss ${digits(held.scores.loss, 4)}`);
  tile('sharpness', digits(step?.sharpness, 4), epoch && `last epoch ${digits(epoch.sharpness, 4)}`);
  tile(
    'speed',
    step ? `${whole(Math.round(step.imagesPerSecond))} img/s` : '-',
    epoch && `${duration(epoch.seconds)} an epoch`,
  );
  tile('lr', short(step?.lr), step && step.rho !== null ? `rho ${short(step.rho)}` : '');
}

function drawProgress(): void {
  const { start } = run;
  const done = stepsDone();
  const total = start?.steps ?? 0;
  element<HTMLProgressElement>('progress').value = total > 0 ? done / total : 0;
  const epoch = Math.min(start?.epochs ?? 0, Math.floor(position()) + 1);
  element('where').textContent = start
    ? `epoch ${epoch} of ${start.epochs}, step ${whole(done)} of ${whole(total)}`
    : 'the run has not begun';
  element('left').textContent = timeText();
}

const resultOf = (end: Run['end']) => (end === undefined || end.reason === 'failed' ? undefined : end.result);

/** Steps that are known to be done. */
function stepsDone(): number {
  const { start, end, steps, epochs } = run;
  const ofWholeEpochs = Math.min((epochs.at(-1)?.epoch ?? 0) * (start?.stepsPerEpoch ?? 0), start?.steps ?? 0);
  return resultOf(end)?.steps ?? Math.max(steps.at(-1)?.step ?? 0, start?.stepsDone ?? 0, ofWholeEpochs);
}

/** How far the run is, in epochs. */
const position = () => stepsDone() / (run.start?.stepsPerEpoch ?? 1);

/** A run that is well writes more often, unless its epochs are slow to evaluate. */
const SILENT_SECONDS = 120;

function timeText(): string {
  const { end, steps } = run;
  if (end?.reason === 'failed') return end.error.code;
  if (end !== undefined) return `took ${duration(end.result.seconds)}`;
  if (cutOff) return 'its process has ended';
  const silence = (Date.now() - updated) / 1000;
  if (silence > SILENT_SECONDS) return `nothing was written for ${clock(silence)}; is it still running?`;
  const eta = steps.at(-1)?.etaSeconds;
  return typeof eta === 'number' ? `about ${clock(eta)} left, evaluations not counted` : '';
}

/** Lines of the log that are kept on the page. */
const LOG_LINES = 500;

function drawLog(): void {
  const items = run.log.slice(-LOG_LINES).map(({ text, kind }) => {
    const item = document.createElement('li');
    item.textContent = text;
    item.className = kind;
    return item;
  });
  element('log').replaceChildren(...items.reverse());
}

const charts = CHARTS.map((spec) => new Chart(spec));
let scheduled = false;

/** Draws at most once a frame, and not while the page is hidden. */
function schedule(): void {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    const current = state();
    Object.assign(element('state'), { textContent: current }).dataset.state = current;
    element<HTMLButtonElement>('stop').disabled = current !== 'training';
    drawProgress();
    drawTiles();
    drawLog();
    for (const chart of charts) chart.draw();
  });
}

function connect(): void {
  const source = new EventSource('events');
  source.addEventListener('open', () => {
    connection = 'open';
    schedule();
  });
  source.addEventListener('message', ({ data }) => {
    add(JSON.parse(data) as Update);
    schedule();
  });
  source.addEventListener('bye', () => {
    connection = 'over';
    source.close();
    schedule();
  });
  // The browser tries again by itself, and gets everything anew.
  source.addEventListener('error', () => {
    connection = 'lost';
    schedule();
  });
}

async function requestStop(): Promise<void> {
  stopRequested = true;
  schedule();
  const answer = await fetch('stop', { method: 'POST' }).catch(() => undefined);
  if (answer?.ok !== true) {
    stopRequested = false;
    run.log.push({ text: 'the run could not be asked to stop', kind: 'warning' });
    schedule();
  }
}

const dialog = element<HTMLDialogElement>('confirm');
element('stop').addEventListener('click', () => dialog.showModal());
dialog.addEventListener('close', () => {
  if (dialog.returnValue === 'stop') void requestStop();
  dialog.returnValue = '';
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  for (const chart of charts) chart.forget();
  schedule();
});
connect();
// What is told of silence grows without news.
setInterval(schedule, 10_000);
