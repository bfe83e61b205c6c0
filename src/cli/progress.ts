// Shows a training run to people: one live line on a terminal, one plain line an epoch everywhere else.
import type { EpochEvent, StepEvent } from '../events.js';
import type { Output } from './output.js';

const percent = (fraction: number) => `${(100 * fraction).toFixed(2)} %`;

/** `1:02:03` or `2:03`. */
export function clock(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const whole = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] === 0 ? parts.slice(1) : parts;
  return shown.map((part, index) => (index === 0 ? String(part) : String(part).padStart(2, '0'))).join(':');
}

const speed = (imagesPerSecond: number) => `${imagesPerSecond.toFixed(imagesPerSecond < 100 ? 1 : 0)} img/s`;

/** The live line of a step: epoch, step, loss, speed, time left. */
export function stepLine(event: StepEvent, epochs: number): string {
  const width = 16;
  const filled = Math.round((width * event.step) / Math.max(1, event.totalSteps));
  const bar = `${'█'.repeat(filled)}${'░'.repeat(width - filled)}`;
  return `${bar} epoch ${event.epoch}/${epochs}  step ${event.step}/${event.totalSteps}  loss ${event.loss.toFixed(4)}  accuracy ${percent(event.accuracy)}  ${speed(event.imagesPerSecond)}  ETA ${clock(event.etaSeconds)}`;
}

/** The line that stays when an epoch is over. */
export function epochLine(event: EpochEvent, epochs: number): string {
  const parts = [
    `epoch ${String(event.epoch).padStart(String(epochs).length)}/${epochs}`,
    `train ${event.train.loss.toFixed(4)} / ${percent(event.train.accuracy)}`,
  ];
  if (event.validation !== undefined)
    parts.push(`validation ${event.validation.loss.toFixed(4)} / ${percent(event.validation.accuracy)}`);
  if (event.test !== undefined) parts.push(`test ${event.test.loss.toFixed(4)} / ${percent(event.test.accuracy)}`);
  if (event.sharpness !== null) parts.push(`sharpness ${event.sharpness.toFixed(4)}`);
  parts.push(speed(event.imagesPerSecond), clock(event.seconds));
  if (event.warning !== undefined) parts.push(`warning: ${event.warning}`);
  return parts.join('  ');
}

/** Writes the events of one run as they come. */
export class TrainProgress {
  readonly #output: Output;
  readonly #epochs: number;

  constructor(output: Output, epochs: number) {
    this.#output = output;
    this.#epochs = epochs;
  }

  step(event: StepEvent): void {
    this.#output.progress(stepLine(event, this.#epochs));
  }

  epoch(event: EpochEvent): void {
    this.#output.text(epochLine(event, this.#epochs));
  }
}
