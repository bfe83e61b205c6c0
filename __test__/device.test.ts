// Choosing a device: names, what `auto` takes, and the one clear error of a machine without a GPU.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { datasets, load, Model, models, SGD, Trainer } from '../src/index.js';
import { hasNvidiaDriver } from '../src/native/driver.js';
import { packageRoot } from '../src/native/paths.js';
import { flatmin } from './support/cli.js';

describe('a device', () => {
  it('is the CPU unless told otherwise', async () => {
    using model = models.demo();
    expect(model.device).toBe('cpu');
    await load({ device: 'cpu' });
    using same = models.demo({ device: 'cpu' });
    expect(same.device).toBe('cpu');
  });

  it.each(['gpu', 'cuda:', 'cuda:-1', 'CPU', 'cuda:1.5', ''])('is not called %j', (device) => {
    const options = { device: device as 'cpu' };
    expect(() => models.demo(options)).toThrow(
      expect.objectContaining({
        code: 'ERR_FLATMIN_OPTION',
        message: expect.stringContaining("'auto', 'cpu', 'cuda' or 'cuda:N'"),
      }),
    );
  });

  it('cannot become a GPU once libtorch was loaded for the CPU', async () => {
    using model = models.demo();
    const expected = expect.objectContaining({
      code: 'ERR_FLATMIN_DEVICE',
      message: expect.stringContaining("load({ device: 'cuda:0' }) before anything else"),
    });
    expect(() => models.demo({ device: 'cuda:0' })).toThrow(expected);
    await expect(load({ device: 'cuda:0' })).rejects.toEqual(expected);
    const script = Model.fromTorchScript('net.pt', { inputShape: [2, 4, 4], device: 'cuda:0' });
    await expect(script).rejects.toEqual(expected);
    const trainer = new Trainer({
      ...{ model, optimizer: new SGD(model, { lr: 0.1 }), train: datasets.digits() },
      ...{ epochs: 1, maxSteps: 1, device: 'cuda:0' },
    });
    await expect(trainer.fit()).rejects.toEqual(expected);
  });
});

describe('how a GPU computes', () => {
  it("takes libtorch's switches, and refuses what is none", async () => {
    await load({ cuda: { tf32Convolutions: false, deterministic: true } });
    await load({ cuda: { tf32Convolutions: true, deterministic: false } });
    const wrong = { cuda: { tf32: true } } as object;
    await expect(load(wrong)).rejects.toMatchObject({ code: 'ERR_FLATMIN_OPTION' });
  });
});

describe.skipIf(hasNvidiaDriver())('without a GPU', () => {
  it('auto is the CPU', async () => {
    using model = models.demo({ device: 'auto' });
    expect(model.device).toBe('cpu');
    const optimizer = new SGD(model, { lr: 0.1 });
    const trainer = new Trainer({ model, optimizer, train: datasets.digits(), epochs: 1, maxSteps: 2, device: 'auto' });
    const events = [];
    for await (const event of trainer.fit()) events.push(event);
    expect(events[0]).toMatchObject({ type: 'start', device: 'cpu' });
    expect(events.at(-1)).toMatchObject({ type: 'end', reason: 'finished' });
  });

  it('cuda is one clear error in a fresh process', async () => {
    const script = `
      const { models } = await import('flatmin');
      for (const make of ['create', 'summary']) {
        try { models[make]('demo', { device: 'cuda:1' }); } catch (error) { console.log(error.code, error.message); }
      }
    `;
    const options = { cwd: packageRoot };
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], options);
    expect(stdout).toMatch(/^(ERR_FLATMIN_DEVICE The device 'cuda:1' .* no NVIDIA driver .*doctor.*\n){2}$/);
  });

  it('the command line says the same, and takes auto', async () => {
    const train = ['train', '--epochs', '1', '--max-steps', '1', '--no-save', '--json'];
    const refused = await flatmin([...train, '--device', 'cuda']);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('no NVIDIA driver') });
    expect(await flatmin([...train, '--device', 'gpu'])).toMatchObject({ code: 2 });
    const { code, stdout } = await flatmin([...train, '--device', 'auto']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout.split('\n')[0] ?? '')).toMatchObject({ type: 'start', device: 'cpu' });
  });
});
