// Seeds of the dropout masks in custom loops. Both passes of a step must use the same masks, and each micro-batch its own:
// the seed depends on the step and on the place of the micro-batch in its pass, not on which pass it is.

/** Counts steps and the backward passes within them. */
export class StepCounter {
  #step = 0;
  #microBatch = 0;

  /** The seed of the next backward pass. */
  nextMaskSeed(): number {
    const seed = this.#step * 65_536 + (this.#microBatch % 65_536);
    this.#microBatch += 1;
    return seed;
  }

  /** The ascent is done: the second pass repeats the masks of the first. */
  secondPass(): void {
    this.#microBatch = 0;
  }

  /** The step is done. */
  nextStep(): void {
    this.#step += 1;
    this.#microBatch = 0;
  }
}
