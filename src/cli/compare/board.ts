// Progress of several runs at once: one live line on a terminal, and plain lines that stay.
import type { EpochEvent, StepEvent } from '../../index.js';
import { spread, spreadText } from '../../report/statistics.js';
import type { Output } from '../output.js';
import { clock } from '../progress.js';

/** What the board needs to know of a run. */
export interface BoardRun {
  readonly name: string;
  readonly epochs: number;
  /** Expected work, in any unit that is the same for all runs. */
  readonly cost: number;
}

/** Where nothing is redrawn, an epoch gets a line only when this many seconds have passed since the last one. */
const SECONDS_BETWEEN_LINES = 10;

/** Shows how far the runs are and how long the rest will take. */
export class Board {
  readonly #running = new Map<BoardRun, { text: string; share: number }>();
  readonly #output: Output;
  readonly #runs: number;
  readonly #width: number;
  readonly #start = performance.now();
  #lastLine = performance.now();
  /** Work still to do when the board was made, and work done since. */
  readonly #planned: number;
  #done = 0;
  #finished = 0;

  /** @param todo Each run with the share of it that was done before. */
  constructor(todo: readonly { run: BoardRun; share: number }[], output: Output) {
    this.#runs = todo.length;
    this.#output = output;
    this.#width = Math.max(0, ...todo.map(({ run }) => run.name.length));
    this.#planned = todo.reduce((sum, { run, share }) => sum + run.cost * (1 - share), 0);
    for (const { run, share } of todo) this.#running.set(run, { text: '', share });
  }

  step(run: BoardRun, event: StepEvent): void {
    const { epoch, step, totalSteps, loss, imagesPerSecond } = event;
    const text = `${run.name} ${epoch}/${run.epochs} loss ${loss.toFixed(3)} ${imagesPerSecond.toFixed(0)} img/s`;
    this.#advance(run, text, step / totalSteps);
  }

  epoch(run: BoardRun, event: EpochEvent): void {
    const text = `${run.name} ${event.epoch}/${run.epochs} test ${percent(event.test?.accuracy)}`;
    this.#advance(run, text, event.epoch / run.epochs);
    if (this.#output.live || performance.now() - this.#lastLine < 1000 * SECONDS_BETWEEN_LINES) return;
    this.#line(`${text}  ${event.imagesPerSecond.toFixed(0)} img/s  ${this.#timeLeft()} left`);
  }

  finished(run: BoardRun, last: EpochEvent | undefined): void {
    this.#advance(run, '', 1);
    this.#finished += 1;
    const { accuracy, loss } = last?.test ?? {};
    const scores = `test accuracy ${percent(accuracy)}  loss ${spreadText(spread(loss === undefined ? [] : [loss]), 3)}`;
    this.#line(`[${this.#finished}/${this.#runs}] ${run.name.padEnd(this.#width)}  ${scores}`);
  }

  failed(run: BoardRun, message: string): void {
    this.#advance(run, '', 1);
    this.#finished += 1;
    this.#output.note(`[${this.#finished}/${this.#runs}] ${run.name}: ${message}`);
  }

  #line(text: string): void {
    this.#output.text(text);
    this.#lastLine = performance.now();
  }

  #advance(run: BoardRun, text: string, share: number): void {
    const before = this.#running.get(run)?.share ?? 0;
    this.#running.set(run, { text, share });
    this.#done += run.cost * (share - before);
    const shown = [...this.#running.values()].map((entry) => entry.text).filter((entry) => entry !== '');
    this.#output.progress(`${this.#finished}/${this.#runs} done, ${this.#timeLeft()} left | ${shown.join(' | ')}`);
  }

  #timeLeft(): string {
    const seconds = (performance.now() - this.#start) / 1000;
    return clock(seconds * (this.#planned / this.#done - 1));
  }
}

const percent = (accuracy: number | undefined) => (accuracy === undefined ? '-' : `${(100 * accuracy).toFixed(1)} %`);
