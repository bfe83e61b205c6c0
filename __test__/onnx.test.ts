// ONNX files of every model of the zoo, checked by the format's own checker and run by onnxruntime: their logits are flatmin's.
// The runtime lies in a small Python environment, which `bash benchmarks/peers/venv.sh onnx` makes; without it those tests are skipped.

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { layers, Model, models, Tensor } from '../src/index.js';
import { cacheRoot } from '../src/native/paths.js';
import * as formula from './goldens/formula.js';
import { flatmin } from './support/cli.js';
import { temporaryFolder } from './support/folder.js';
import { errorOf } from './support.js';

const PYTHON = join(cacheRoot(process.env), 'onnx-venv', 'bin', 'python');
const BATCH = 2;

interface Answer {
  difference: number;
  batches: number;
  names: string[];
  metadata: Record<string, string>;
  error?: string;
}

/** onnxruntime in a process that answers one file after the other. */
class Runtime {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;

  constructor() {
    const script = fileURLToPath(new URL('onnx/run_exported.py', import.meta.url));
    this.#child = spawn(PYTHON, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async ask(question: object): Promise<Answer> {
    this.#child.stdin.write(`${JSON.stringify(question)}\n`);
    return JSON.parse((await this.#lines.next()).value as string) as Answer;
  }

  end(): void {
    this.#child.stdin.end();
  }
}

const folder = temporaryFolder('onnx');

/** Running statistics, gains and offsets that leave nothing as it was: a fresh model's would hide half of the graph. */
async function stir(model: Model): Promise<void> {
  const entries = Object.entries(await model.stateDict()).filter(([, tensor]) => tensor.shape.length === 1);
  const stirred = entries.map(([name, tensor]): [string, Tensor] => [
    name,
    Tensor.from(Float32Array.from(formula.tensorValue(name, tensor.shape)), tensor.shape),
  ]);
  await model.loadStateDict(Object.fromEntries(stirred), { strict: false });
}

/** Exports a model and asks the runtime for its logits. */
async function exported(model: Model, runtime: Runtime): Promise<Answer> {
  await stir(model);
  const shape = [BATCH, ...model.inputShape];
  const images = Float32Array.from(formula.images(0, shape));
  const logits = await (await model.forward(Tensor.from(images, shape))).data();
  const onnx = join(folder, `${model.name}.onnx`);
  await model.exportOnnx(onnx);
  const answer = await runtime.ask({
    onnx,
    images: Array.from(images),
    shape,
    logits: Array.from(logits as Float32Array),
  });
  await rm(onnx);
  return answer;
}

describe.skipIf(!existsSync(PYTHON))('in onnxruntime (skipped without it: bash benchmarks/peers/venv.sh onnx)', () => {
  let runtime: Runtime;
  beforeAll(() => {
    runtime = new Runtime();
  });
  afterAll(() => runtime.end());

  it.each(models.names())('%s', { timeout: 240_000 }, async (name) => {
    const [channels, height] = models.spec(name).inputShape;
    // Small, but VGG halves the image five times.
    const side = height === 224 ? 64 : Math.min(height, name === 'vgg16_bn' ? 32 : 16);
    using model = models.create(name, { inputShape: [channels, side, side], seed: 1 });
    const answer = await exported(model, runtime);
    expect(answer.error).toBeUndefined();
    expect(answer.difference).toBeLessThan(1e-4);
    expect(answer.batches).toBeLessThan(1e-4);
    const names = Object.keys(await model.stateDict()).filter((entry) => !entry.endsWith('num_batches_tracked'));
    expect(answer.names).toEqual(expect.arrayContaining(names));
  });

  it('every other layer, class names and normalisation', async () => {
    const { conv2d, relu6, leakyRelu, gelu, hardswish, tanh, sigmoid, batchNorm2d, layerNorm, layerNorm2d } = layers;
    const list = [
      conv2d(8, 3, { padding: 1 }),
      batchNorm2d({ affine: false }),
      leakyRelu({ negativeSlope: 0.2 }),
      layers.zeroPad({ left: -1, top: 2, channels: 2 }),
      layers.residual([conv2d(12, 3, { padding: 1, stride: 2 }), gelu({ approximate: 'tanh' })], {
        shortcut: 'optionA',
      }),
      layers.sum([[relu6()], [hardswish()], [tanh(), layers.shakeDrop(0.3)]]),
      layers.shakeShake([[sigmoid()], []]),
      layers.concat([[], [layers.avgPool2d(3, { stride: 1, padding: 1 })]]),
      layerNorm2d({ affine: false }),
      layers.toTokens(),
      layers.residual([layers.selfAttention(4), layers.stochasticDepth(0.5)], { activation: 'none' }),
      layers.toImage({ height: 9 }),
      layers.toTokens(),
      layerNorm(),
      layers.tokenPool('mean'),
      layers.dropout(),
      layers.linear(3, { bias: false }),
    ];
    const normalization = { mean: [0.5, 0.25], std: [0.2, 0.1] };
    const options = { inputShape: [2, 16, 16] as [number, number, number], classNames: ['a', 'b', 'c'], normalization };
    using model = Model.sequential(list, { name: 'layers', ...options });
    const answer = await exported(model, runtime);
    expect(answer.error).toBeUndefined();
    expect(answer.difference).toBeLessThan(1e-4);
    const { classNames, mean, std } = answer.metadata;
    expect([classNames, mean, std].map((json) => JSON.parse(json as string))).toEqual([
      ['a', 'b', 'c'],
      normalization.mean,
      normalization.std,
    ]);
  });
});

describe('exportOnnx', () => {
  it('leaves no half file and keeps the old one', async () => {
    using model = models.demo();
    const file = join(folder, 'demo.onnx');
    await model.exportOnnx(file);
    const before = await readFile(file);
    expect((await errorOf(() => model.exportOnnx(join(folder, 'nowhere', 'demo.onnx')))).code).toBe('ERR_FLATMIN_PATH');
    expect(await readFile(file)).toEqual(before);
  });

  it('refuses TorchScript by name', async () => {
    const script = fileURLToPath(new URL('fixtures/small-script.pt', import.meta.url));
    using model = await Model.fromTorchScript(script, { inputShape: [2, 4, 4] });
    const { code, message } = await errorOf(() => model.exportOnnx(join(folder, 'script.onnx')));
    expect(code).toBe('ERR_FLATMIN_OPTION');
    expect(message).toContain('TorchScript');
  });

  it('is what flatmin export does for .onnx', async () => {
    using model = models.demo({ seed: 3 });
    const [weights, out, other] = ['demo.safetensors', 'cli.onnx', 'library.onnx'].map((name) => join(folder, name));
    await model.save(weights as string);
    await model.exportOnnx(other as string);
    const { code, stdout } = await flatmin([
      'export',
      '--weights',
      weights as string,
      '--out',
      out as string,
      '--json',
    ]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ model: 'demo', format: 'onnx' });
    expect(await readFile(out as string)).toEqual(await readFile(other as string));
    const wrong = await flatmin(['export', '--weights', weights as string, '--out', 'net.pt', '--format', 'onnx']);
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('.onnx') });
  });
});
