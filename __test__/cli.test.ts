// The command line as a user meets it: help, wrong usage, exit codes, and the promise that --json is alone on stdout.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { flatmin } from './support/cli.js';
import { temporaryFolder } from './support/folder.js';

const folder = temporaryFolder('cli');

describe('help', () => {
  it('lists every command', async () => {
    const { code, stdout } = await flatmin(['--help']);
    expect(code).toBe(0);
    for (const name of [
      'setup',
      'doctor',
      'demo',
      'train',
      'compare',
      'eval',
      'predict',
      'export',
      'bench',
      'models',
      'data',
    ])
      expect(stdout).toContain(`  ${name}`);
  });

  it('of a command shows flags with their defaults', async () => {
    const { code, stdout } = await flatmin(['train', '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/--momentum <number>.*\(default: 0\.9\)/);
    expect(stdout).toMatch(/--batch-size <n>.*\(default: 128\)/);
  });

  it('tells the version', async () => {
    const { code, stdout } = await flatmin(['--version']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('wrong usage ends with code 2 and an empty stdout', () => {
  it.each([
    [['trian'], /Did you mean train/],
    [['train', '--epoch', '3'], /Did you mean --epochs/],
    [['train', '--optimizer', 'asma'], /did you mean 'asam'/],
    [['train', '--data', 'cifar10'], /--data-dir/],
    [['train', '--epochs', '0'], /epochs.*at least 1/],
    [['train', '--epochs', 'ten'], /--epochs.*number.*'ten'/],
    [['train', '--optimizer', 'sgd', '--rho', '0.1'], /'rho'.*'sgd'/],
    [['train', '--optimizer', 'sam', '--eta', '0.1'], /'eta'.*'sam'/],
    [['train', '--schedule', 'step'], /--milestones/],
    [['train', '--schedule', 'cosin'], /did you mean 'cosine'/],
    [['train', '--schedule', 'cosine', '--schedule-gamma', '0.1'], /'scheduleGamma'.*'cosine'/],
    [['train', '--schedule', '{type: cosine, minFacto: 0.1}'], /did you mean 'minFactor'/],
    [['train', '--schedule', '{type: cosine'], /--schedule.*mapping/],
    [['train', '--model', 'resnet21'], /did you mean 'resnet20'/],
    [['eval'], /--weights/],
    [['eval', '--weights', 'x.safetensors', '--split', 'tset'], /did you mean 'test'/],
    [['predict'], /images/],
    [['data', 'download', 'cifar11', '.'], /did you mean 'cifar10'/],
    [['bench', 'stpe'], /Did you mean step/],
  ])('%j', async (args, message) => {
    const { code, stdout, stderr } = await flatmin([...args, '--json']);
    expect(stderr).toMatch(message);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });

  it('an unknown key of a config file', async () => {
    const config = join(folder, 'bad.yaml');
    writeFileSync(config, 'epochs: 1\nlearningRate: 0.1\nbatchsize: 4\n');
    const { code, stderr } = await flatmin(['train', '--config', config]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/bad\.yaml: unknown key 'learningRate'/);
  });
});

describe('failures end with code 1, a code and no stack', () => {
  it('weights that are not there', async () => {
    const { code, stdout, stderr } = await flatmin(['eval', '--weights', join(folder, 'absent'), '--json']);
    expect(code).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^error ERR_FLATMIN_PATH: .*absent/);
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  it('a libtorch for CUDA that is not there, on a machine without a GPU, too', async () => {
    const { code, stderr } = await flatmin(['setup', '--device', 'cuda', '--libtorch', join(folder, 'absent')]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error ERR_FLATMIN_LIBTORCH: .*absent does not exist/);
  });

  it('weights that are no weights; --verbose shows the stack', async () => {
    const file = join(folder, 'text.safetensors');
    writeFileSync(file, 'not weights at all');
    const { code, stderr } = await flatmin(['eval', '--model', 'demo', '--weights', file, '--verbose']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error ERR_FLATMIN_FORMAT: /);
    expect(stderr).toMatch(/\n\s+at /);
  });

  it('a data folder without the data', async () => {
    const { code, stderr } = await flatmin(['train', '--data', 'cifar10', '--data-dir', folder, '--no-save']);
    expect(code).toBe(1);
    expect(stderr).toContain('error ERR_FLATMIN_PATH: ');
  });
});

describe('models', () => {
  it('are listed as JSON', async () => {
    const { code, stdout } = await flatmin(['models', '--json']);
    expect(code).toBe(0);
    const list = JSON.parse(stdout) as { name: string; parameters: number; inputShape: number[] }[];
    // 269,722 is what the PyTorch model with option-A shortcuts counts.
    expect(list).toContainEqual({ name: 'resnet20', parameters: 269_722, inputShape: [3, 32, 32] });
    expect(list.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['resnet32', 'resnet44', 'resnet56', 'resnet110', 'demo']),
    );
  });

  it('are listed as a table for people', async () => {
    const { stdout } = await flatmin(['models']);
    expect(stdout).toMatch(/resnet20 +269,722/);
  });

  it('are told about one by one', async () => {
    const { code, stdout } = await flatmin(['models', 'wrn28_10', '--batch-size', '64', '--json']);
    expect(code).toBe(0);
    const model = JSON.parse(stdout);
    expect(model).toMatchObject({ name: 'wrn28_10', parameters: 36_479_194, inputShape: [3, 32, 32], numClasses: 10 });
    expect(model.layers.reduce((sum: number, layer: { parameters: number }) => sum + layer.parameters, 0)).toBe(
      model.parameters,
    );
    // 5.2 billion, as its authors count.
    expect(model.macs).toBe(model.layers.reduce((sum: number, layer: { macs: number }) => sum + layer.macs, 0));
    expect(model.macs / 1e9).toBeCloseTo(5.2, 1);
    const larger = await flatmin(['models', 'wrn28_10', '--json', '--dtype', 'bfloat16']);
    const { memory } = JSON.parse(larger.stdout);
    // Twice the images, half the bytes.
    expect(memory).toMatchObject({ batchSize: 128, dtype: 'bfloat16', activations: model.memory.activations });
    const { stdout: table } = await flatmin(['models', 'wrn28_10', '--num-classes', '100']);
    expect(table).toMatch(/features\.stage1\.unit1\.body\.conv1\.conv +conv2d +160 x 32 x 32 +23,040/);
    expect(table).toMatch(/batches of 128 in float32: about [\d,]+ MB/);
  });

  it.each([
    [['resnet21'], "did you mean 'resnet20'?"],
    [['demo', '--dropout', '0.5'], 'dropout'],
    [['demo', '--device', 'cpu'], '--device'],
    [['demo', 'resnet20'], 'too many arguments'],
    [['demo', '--input-shape', '3,32'], 'inputShape'],
  ])('refuse %j', async (words, message) => {
    const { code, stderr } = await flatmin(['models', ...words]);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});

it('the JSON Schema of a config file is printed', async () => {
  const { code, stdout } = await flatmin(['train', '--print-schema']);
  expect(code).toBe(0);
  const schema = JSON.parse(stdout) as { properties: object };
  expect(schema.properties).toMatchObject({
    weightDecay: { type: 'number' },
    optimizer: { enum: expect.arrayContaining(['sgd', 'adam', 'adamw', 'sam', 'asam']) },
  });
});
