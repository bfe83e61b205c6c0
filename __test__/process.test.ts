// flatmin in a process of its own, as users run it: import and require, lazy loading, clean exits. Uses the built package.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const root = new URL('..', import.meta.url);

/** Runs a script in a new process in the package's root, so that 'flatmin' is this package. */
async function node(script: string, ...flags: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, '-e', script], {
    cwd: root,
    timeout: 60_000,
  });
  return stdout.trim();
}

const training = `
  const { datasets, Model, layers, SGD, SAM, Trainer } = await import('flatmin');
  const model = Model.sequential([layers.flatten(), layers.linear(10)], { inputShape: [1, 8, 8] });
  const optimizer = new SAM(new SGD(model));
  const trainer = new Trainer({ model, optimizer, train: datasets.digits(), epochs: EPOCHS });
`;
const trainingFor = (epochs: number): string => training.replace('EPOCHS', String(epochs));
const esm = '--input-type=module';

describe('a process', () => {
  it('that imports flatmin loads no native code until it is needed', async () => {
    const script = `
      const loaded = () => process.report.getReport().sharedObjects.some((path) => path.includes('libtorch_cpu'));
      const { Tensor, load } = await import('flatmin');
      const before = loaded();
      await load();
      console.log(before, loaded(), (await Tensor.from([1, 2]).data()).length);
    `;
    expect(await node(script, esm)).toBe('false true 2');
  });

  it('can require it', async () => {
    expect(
      await node("const { SGD, models } = require('flatmin'); console.log(typeof SGD, typeof models.resnet20)"),
    ).toBe('function function');
  });

  it('exits by itself after training, also when nobody waited for the run', async () => {
    expect(
      await node(`${trainingFor(2)} const history = await trainer.fit(); console.log(history.epochs.length);`, esm),
    ).toBe('2');
    expect(
      await node(`${trainingFor(2)} trainer.fit(); process.on('exit', (code) => console.log('exit', code));`, esm),
    ).toBe('exit 0');
  });

  it('can exit in the middle of a run', async () => {
    const script = `${trainingFor(100_000)} for await (const event of trainer.fit()) if (event.type === 'epoch') process.exit(7);`;
    await expect(node(script, esm)).rejects.toMatchObject({ code: 7, signal: null, stderr: '' });
  });

  it('dies of a failed run that nobody looks at', async () => {
    const script = `${trainingFor(1).replace('datasets.digits()', "datasets.cifar10('/nowhere')")} trainer.fit();`;
    await expect(node(script, esm)).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining('ERR_FLATMIN_PATH'),
    });
  });
});
