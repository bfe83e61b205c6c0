// `flatmin study`: does flatness predict generalization? Trains a grid of nets to the same training loss, measures each, and
// ranks them.
import { mkdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { writeWhole } from '../../write.js';
import { type Context, defineCommand } from '../command.js';
import { EXIT, UsageError } from '../failure.js';
import { onInterrupt } from '../interrupt.js';
import { clock } from '../progress.js';
import { nameOf, planStudy, type StudyOptions, studyFolder, studySchema } from '../study/plan.js';
import { makeNets } from '../study/pool.js';
import { type NetRecord, readRecord } from '../study/record.js';
import { showStudy, studyDocument } from '../study/result.js';

export const studyCommand = defineCommand({
  name: 'study',
  summary: 'train a grid of nets, and ask which measure of flatness predicts their generalization gap',
  details: `Each net has a folder below --out with its record and weights, so the same command goes on after Ctrl-C (code 130): what is
finished is not made again. Nets that do not come to the training loss are listed and not ranked.

Examples:
  flatmin study examples/study-digits.yaml
  flatmin study --batch-size 16,64 --lr 0.01,0.02 --weight-decay 0 --dropout 0 --out runs/small`,
  operands: [{ name: '[file]', description: 'YAML file of the study, as --config' }],
  schema: studySchema,
  configOf: (_flags, [file]) => file,
  run: study,
});

async function study(options: StudyOptions, { output, exit }: Context): Promise<void> {
  if (options.data !== 'digits' && options.dataDir === undefined)
    throw new UsageError(`--data ${options.data} needs --data-dir, the folder of its binary files`);
  const plan = planStudy(options);
  const records = new Map(plan.map((net) => [net.folder, readRecord(net.folder, options)]));
  const todo = plan.filter(({ folder }) => records.get(folder) === undefined);
  const [out, jobs] = [studyFolder(options), options.jobs ?? availableParallelism()];
  output.text(`${plan.length} nets (${options.net}) on ${options.data}, ${plan.length - todo.length} made before`);
  const controller = new AbortController();
  using interrupt = onInterrupt(() => controller.abort());
  const board = new Progress(todo.length, Math.min(jobs, todo.length), (line) => output.progress(line));
  await makeNets(todo, {
    ...{ options, jobs, signal: controller.signal },
    onRecord: (record) => {
      const net = todo.find(({ point, seed }) => seed === record.seed && nameOf(point) === nameOf(record.point));
      if (net !== undefined) records.set(net.folder, record);
      output.text(`${board.done()} ${textOf(record)}`);
    },
  });
  const made = [...records.values()].filter((record) => record !== undefined);
  if (made.length > 0) {
    const document = studyDocument(plan.length, made, options);
    await mkdir(out, { recursive: true });
    await writeWhole(join(out, 'study.json'), `${JSON.stringify(document, undefined, 2)}\n`);
    // Loaded only when needed: the plotting library would double the start of every command.
    const { studyPage } = await import('../study/page.js');
    const title = `Flatness and generalization: ${options.net} nets on ${options.data}`;
    await writeWhole(join(out, 'study.html'), studyPage(document, title));
    showStudy(document, output);
    output.document(document);
    output.text(`${join(out, 'study.html')}, ${join(out, 'study.json')}`);
  }
  if (interrupt.requested && made.length < plan.length) {
    output.note(`${made.length} of ${plan.length} nets are made; the same command goes on`);
    exit(EXIT.interrupted);
  }
}

const textOf = ({ point, seed, converged, epochs, gap, measures, failure }: NetRecord) =>
  `${nameOf(point)}, seed ${seed}: ${
    failure ??
    `${converged ? '' : 'not converged, '}${epochs} epochs, gap ${gap.loss.toFixed(4)}, sharpness ${measures.sharpness.toPrecision(3)}, adaptive ${measures.adaptiveSharpness.toPrecision(3)}`
  }`;

/** How many nets are made and how long the rest will take. */
class Progress {
  readonly #start = performance.now();
  #finished = 0;

  constructor(
    private readonly nets: number,
    private readonly jobs: number,
    private readonly show: (line: string) => void,
  ) {
    if (nets > 0) show(`0/${nets} nets`);
  }

  /** Counts a net; gives its number. */
  done(): string {
    this.#finished += 1;
    const seconds = (performance.now() - this.#start) / 1000;
    const left =
      Math.ceil((this.nets - this.#finished) / this.jobs) * (seconds / Math.ceil(this.#finished / this.jobs));
    this.show(`${this.#finished}/${this.nets} nets, ${clock(left)} left`);
    return `[${this.#finished}/${this.nets}]`;
  }
}
