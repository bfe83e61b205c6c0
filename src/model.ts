// A model: a spec (a tree of layers) and its weights, kept by the native side.
// All computing methods are asynchronous and leave the event loop free.

import { type Batch, withBatch } from './batch.js';
import { alive, call } from './call.js';
import { type DatasetSource, nativeDataset, resolveDataset } from './dataset.js';
import { type Device, settleDevice } from './device.js';
import { FlatminError } from './errors.js';
import type { Evaluation } from './events.js';
import { type ModelSpec, sequentialSpec } from './model-spec.js';
import { ModelSummary, type Summarized } from './model-summary.js';
import type { BindingModel } from './native/binding.js';
import { loadNative } from './native/index.js';
import type { ModelDtype } from './options/fields.js';
import {
  type BackwardOptions,
  backwardSchema,
  type ForwardOptions,
  type FromSpecOptions,
  filePathSchema,
  forwardSchema,
  fromSpecSchema,
  type InputShape,
  type Layer,
  type LoadModelOptions,
  type LoadStateDictOptions,
  type LoadWeightsOptions,
  layerNameSchema,
  layerSchema,
  loadModelSchema,
  loadStateDictSchema,
  loadWeightsSchema,
  type Normalization,
  normalizationSchema,
  parameterNameSchema,
  patternsSchema,
  type ReplaceOptions,
  replaceSchema,
  type SequentialOptions,
  sequentialSchema,
  type TorchScriptOptions,
  torchScriptSchema,
} from './options/model.js';
import { parseOptions, show } from './options/parse.js';
import { type EvaluateOptions, evaluateSchema, type PredictOptions, predictSchema } from './options/trainer.js';
import { StepCounter } from './step-counter.js';
import { nativeTensor, requireTensor, Tensor } from './tensor.js';

/** Parameters and statistics by name, with PyTorch's names and layouts. */
export type StateDict = Record<string, Tensor>;

/** What loading weights found. */
export interface LoadReport {
  /** Names that the model has and the weights lack. */
  missing: string[];
  /** Names that the weights have and the model lacks. */
  unexpected: string[];
  /** Names whose shapes differ: the model keeps its own values there. */
  mismatched: { name: string; found: number[]; expected: number[] }[];
}

/** One guess of `model.predict`. */
export interface Prediction {
  label: number;
  /** Name of the class, or the label as text when the model has no class names. */
  name: string;
  probability: number;
}

let nativeOf: (model: Model) => BindingModel;
let countersOf: (model: Model) => StepCounter;

/** A neural network for images. */
export class Model {
  #native: BindingModel | undefined;
  readonly #counter = new StepCounter();

  /** @internal Use {@link Model.sequential}, {@link models} or {@link Model.load}. */
  constructor(native: BindingModel) {
    this.#native = native;
  }

  static {
    nativeOf = (model) => alive(model.#native, 'model');
    countersOf = (model) => model.#counter;
  }

  /**
   * A model of layers applied in order; the last one must give [batch, numClasses].
   * @example Model.sequential([layers.flatten(), layers.linear(10)], { inputShape: [1, 8, 8] })
   */
  static sequential(layers: readonly Layer[], options: SequentialOptions): Model {
    const { dtype, device, seed, ...rest } = parseOptions(sequentialSchema, options, 'Model.sequential');
    return Model.fromSpec(sequentialSpec(layers, rest), { dtype, device, seed });
  }

  /** A model from its spec, with fresh weights. */
  static fromSpec(spec: ModelSpec, options: FromSpecOptions = {}): Model {
    const { device, ...checked } = parseOptions(fromSpecSchema, options, 'Model.fromSpec');
    const place = settleDevice(device);
    return new Model(call(() => loadNative().BindingModel.create(spec, { ...checked, device: place })));
  }

  /** Reads a model that `save` or a run's checkpoint wrote: layers, weights, class names and normalisation. */
  static async load(path: string, options: LoadModelOptions = {}): Promise<Model> {
    const file = parseOptions(filePathSchema, path, 'Model.load path');
    const { device, ...checked } = parseOptions(loadModelSchema, options, 'Model.load');
    const place = settleDevice(device);
    return new Model(await call(() => loadNative().BindingModel.load(file, { ...checked, device: place })));
  }

  /**
   * A TorchScript module (`torch.jit.script(net).save(path)` in PyTorch) as a model that every optimizer trains. It computes
   * logits [batch, classes] of images [batch, channels, height, width]. A TorchScript file is a program that runs: open
   * only those you trust.
   */
  static async fromTorchScript(path: string, options: TorchScriptOptions): Promise<Model> {
    const file = parseOptions(filePathSchema, path, 'Model.fromTorchScript path');
    const { dtype, device, ...rest } = parseOptions(torchScriptSchema, options, 'Model.fromTorchScript');
    const place = settleDevice(device);
    return new Model(await call(() => loadNative().BindingModel.fromTorchScript(file, rest, { dtype, device: place })));
  }

  /** What a file that `save` wrote says of its model; null for weights of other programs. */
  static specIn(path: string): ModelSpec | null {
    const file = parseOptions(filePathSchema, path, 'Model.specIn path');
    return call(() => loadNative().BindingModel.specIn(file)) as ModelSpec | null;
  }

  /** The model as plain data. */
  get spec(): ModelSpec {
    return nativeOf(this).spec as ModelSpec;
  }

  /** Name of the model, such as `resnet20`. */
  get name(): string {
    return this.spec.name;
  }

  /** Shape of one image: [channels, height, width]. */
  get inputShape(): InputShape {
    return this.spec.inputShape;
  }

  get numClasses(): number {
    return this.spec.numClasses;
  }

  /** Number type that the model computes in. Images and logits of a bfloat16 model are float32. */
  get dtype(): ModelDtype {
    return nativeOf(this).dtype as ModelDtype;
  }

  /** Where the model lives. */
  get device(): Device {
    return nativeOf(this).device as Device;
  }

  /** Number of trainable numbers. */
  get parameterCount(): number {
    return nativeOf(this).parameterCount;
  }

  /** Names of the classes in the order of the labels, or null. */
  get classNames(): string[] | null {
    return this.spec.classNames ?? null;
  }

  set classNames(names: string[]) {
    if (!Array.isArray(names) || names.some((name) => typeof name !== 'string') || names.length !== this.numClasses) {
      throw new FlatminError(
        'ERR_FLATMIN_OPTION',
        `model.classNames: found ${show(names)}, expected ${this.numClasses} names`,
      );
    }
    call(() => nativeOf(this).setClassNames(names));
  }

  /** What `predict` and `evaluate` apply to pixels in [0, 1], or null. */
  get normalization(): Normalization | null {
    return this.spec.normalization ?? null;
  }

  set normalization(normalization: Normalization) {
    const checked = parseOptions(normalizationSchema, normalization, 'model.normalization');
    call(() => nativeOf(this).setNormalization(checked));
  }

  /** Layers, shapes, parameters and multiply-adds; print it with `String(model.summary())`. */
  summary(): ModelSummary {
    const summary = call(() => nativeOf(this).summary());
    return new ModelSummary(summary as Summarized);
  }

  /**
   * The logits [batch, classes] of images [batch, channels, height, width], which must be normalised already.
   * Batch norm uses its running statistics, or with `train` the batch's (without updating the running ones).
   */
  async forward(images: Tensor, options: ForwardOptions = {}): Promise<Tensor> {
    const checked = parseOptions(forwardSchema, options, 'model.forward');
    const input = nativeTensor(requireTensor(images, 'model.forward images'));
    return new Tensor(await call(() => nativeOf(this).forward(input, checked)));
  }

  /**
   * One forward and backward pass over a batch. Gradients add up until an optimizer steps.
   * @returns The mean loss of the batch.
   */
  async backward(batch: Batch, options: BackwardOptions = {}): Promise<number> {
    const { loss, seed = this.#counter.nextMaskSeed() } = parseOptions(backwardSchema, options, 'model.backward');
    const outcome = await withBatch(batch, 'model.backward', (images, labels) =>
      call(() => nativeOf(this).backward(images, labels, { loss, seed })),
    );
    return outcome.loss;
  }

  /** A copy of the gradient of one parameter, or null when it has none. */
  gradient(name: string): Tensor | null {
    const gradient = call(() =>
      nativeOf(this).gradient(parseOptions(parameterNameSchema, name, 'model.gradient name')),
    );
    return gradient ? new Tensor(gradient) : null;
  }

  /** Loss, accuracy and other metrics on a data set. Works during training, too, between two steps. */
  async evaluate(dataset: DatasetSource, options: EvaluateOptions = {}): Promise<Evaluation> {
    const checked = parseOptions(evaluateSchema, options, 'model.evaluate');
    const data = nativeDataset(await resolveDataset(dataset, 'model.evaluate dataset'));
    return (await call(() => nativeOf(this).evaluate(data, checked))) as Evaluation;
  }

  /**
   * The most likely classes, best first.
   * @param images An image file (PNG, JPEG, WebP), a list of files, or a tensor [batch, channels, height, width] of pixels in
   * [0, 1]. Files are resized to the model's input; the model's normalisation is applied to all.
   */
  async predict(images: string, options?: PredictOptions): Promise<Prediction[]>;
  async predict(images: readonly string[] | Tensor, options?: PredictOptions): Promise<Prediction[][]>;
  async predict(
    images: string | readonly string[] | Tensor,
    options: PredictOptions = {},
  ): Promise<Prediction[] | Prediction[][]> {
    const checked = parseOptions(predictSchema, options, 'model.predict');
    if (images instanceof Tensor) return call(() => nativeOf(this).predict(nativeTensor(images), checked));
    const paths = typeof images === 'string' ? [images] : images;
    if (!Array.isArray(paths) || paths.length === 0 || paths.some((path) => typeof path !== 'string' || path === '')) {
      throw new FlatminError(
        'ERR_FLATMIN_OPTION',
        `model.predict images: found ${show(images)}, expected a file, a list of files or a Tensor`,
      );
    }
    const predictions = await call(() => nativeOf(this).predictFiles(paths, checked));
    return typeof images === 'string' ? (predictions[0] as Prediction[]) : predictions;
  }

  /**
   * Writes a file that holds all that `Model.load` needs; complete or not at all. A name that ends with `.pt` or `.pth` gives
   * a state dict for `torch.load`, any other a safetensors file; PyTorch reads both. A TorchScript model becomes
   * TorchScript again under `.pt`, and weights alone under other names.
   */
  async save(path: string): Promise<void> {
    const file = parseOptions(filePathSchema, path, 'model.save path');
    await call(() => nativeOf(this).save(file));
  }

  /**
   * Writes the model as an ONNX file (operator set 17), complete or not at all: in evaluation mode, float32, from `images` [batch,
   * channels, height, width], normalised already, to `logits` [batch, classes], for batches of any size. Weights keep their
   * names; class names and normalisation are in the file's metadata.
   * @throws `ERR_FLATMIN_OPTION` for a TorchScript model.
   */
  async exportOnnx(path: string): Promise<void> {
    const file = parseOptions(filePathSchema, path, 'model.exportOnnx path');
    await call(() => nativeOf(this).exportOnnx(file));
  }

  /**
   * Reads weights with PyTorch's names into this model: safetensors, or what `torch.save` wrote. Nothing in a file is
   * executed, and nothing changes when it does not fit.
   */
  async loadWeights(path: string, options: LoadWeightsOptions = {}): Promise<LoadReport> {
    const file = parseOptions(filePathSchema, path, 'model.loadWeights path');
    const checked = parseOptions(loadWeightsSchema, options, 'model.loadWeights');
    return call(() => nativeOf(this).loadWeights(file, checked));
  }

  /** Copies of all parameters and running statistics. */
  async stateDict(): Promise<StateDict> {
    const tensors = await call(() => nativeOf(this).stateDict());
    return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, new Tensor(tensor)]));
  }

  /** Copies parameters and statistics into the model. Nothing changes when they do not fit. */
  async loadStateDict(state: StateDict, options: LoadStateDictOptions = {}): Promise<LoadReport> {
    const checked = parseOptions(loadStateDictSchema, options, 'model.loadStateDict');
    if (state === null || typeof state !== 'object') {
      throw new FlatminError(
        'ERR_FLATMIN_OPTION',
        `model.loadStateDict: found ${show(state)}, expected an object of tensors by name`,
      );
    }
    const tensors = Object.entries(state).map(([name, tensor]) => [
      name,
      nativeTensor(requireTensor(tensor, `model.loadStateDict '${name}'`)),
    ]);
    return call(() => nativeOf(this).loadStateDict(Object.fromEntries(tensors), checked));
  }

  /**
   * Freezes what the patterns name: parameters get no gradient, so no optimizer perturbs or updates them; batch norms use
   * their running statistics and leave them alone.
   * @param patterns Names in the state dict, `*` for any characters: `layer1.*` is a part with its batch norms,
   * `*.running_*` all statistics but no parameter.
   */
  freeze(patterns: string | readonly string[]): void {
    const checked = parseOptions(patternsSchema, patterns, 'model.freeze');
    call(() => nativeOf(this).freeze(checked));
  }

  /** Trains again what the patterns name; everything unless told. */
  unfreeze(patterns: string | readonly string[] = '*'): void {
    const checked = parseOptions(patternsSchema, patterns, 'model.unfreeze');
    call(() => nativeOf(this).unfreeze(checked));
  }

  /** Names in the state dict that are frozen. */
  get frozen(): string[] {
    return nativeOf(this).frozen;
  }

  /**
   * A copy of the model with another layer in place of one, such as a new head for other classes; that layer starts
   * anew under the old one's name, everything else keeps its values.
   * @param name Of the layer that goes, with dots for one inside another: `fc`, `layer4.2.conv1`.
   * @example const tuned = await model.replace('fc', layers.linear(5));
   */
  async replace(name: string, layer: Layer, options: ReplaceOptions = {}): Promise<Model> {
    const place = parseOptions(layerNameSchema, name, 'model.replace name');
    const replacement = parseOptions(layerSchema, layer, 'model.replace layer');
    const checked = parseOptions(replaceSchema, options, 'model.replace');
    return new Model(await call(() => nativeOf(this).replace(place, replacement, checked)));
  }

  /** Frees the memory now; a second call does nothing. */
  dispose(): void {
    this.#native?.dispose();
    this.#native = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
  }
}

/** @internal The native object of a model. */
export const nativeModel = (model: Model): BindingModel => nativeOf(model);

/** @internal The counter that gives both passes of a step the same dropout masks. */
export const stepCounter = (model: Model): StepCounter => countersOf(model);

/** @internal Checks an argument that must be a model. */
export function requireModel(value: unknown, argument: string): Model {
  if (value instanceof Model) return value;
  throw new FlatminError(
    'ERR_FLATMIN_OPTION',
    `${argument}: found ${show(value)}, expected a Model; make one with models.resnet20() or Model.sequential()`,
  );
}
