// Measures several programs in turns: a block of steps of each, round after round.
// What slows the machine for a while then slows all of them, and ratios hold better than the figures themselves.

type Times = Readonly<Record<string, unknown>>;

/** Something that can be asked for a block of timed steps. */
export interface Contender {
  readonly name: string;
  run(steps: number): Promise<Times>;
}

/** All answers of one contender, one a round. */
export interface Answers {
  readonly name: string;
  readonly rounds: Times[];
}

/** How the turns are taken. */
interface Plan {
  readonly rounds: number;
  /** Timed steps in each block. */
  readonly steps: number;
  /** Told before each block, for progress. */
  readonly onBlock?: (round: number, name: string) => void;
}

/** Runs the blocks. The first step of each block, which pays for the change of program, is run apart and left out. */
export async function alternate(contenders: readonly Contender[], plan: Plan): Promise<Answers[]> {
  const answers = contenders.map(({ name }): Answers => ({ name, rounds: [] }));
  for (let round = 1; round <= plan.rounds; round += 1) {
    for (const [index, contender] of contenders.entries()) {
      plan.onBlock?.(round, contender.name);
      await contender.run(1);
      answers[index]?.rounds.push(await contender.run(plan.steps));
    }
  }
  return answers;
}

/** What every bench is told besides what it times. */
export interface BenchSettings extends Plan {
  /** Steps before the first timed one. */
  readonly warmup: number;
  readonly threads: number;
  readonly seed: number;
}
