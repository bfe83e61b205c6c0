// The native addon's surface as TypeScript sees it: the typed contract between the facade and `crates/node`.
// Shapes of JSON objects are spelled out here; `native/index.d.ts`, which the build generates, only knows them as `any`.

/** Typed arrays that tensors are made of and read as. */
export type TensorData = Float32Array | Float64Array | Uint8Array | BigInt64Array;

/** What the loaded native side says about itself. */
export interface NativeInfo {
  readonly torchVersion: string;
  readonly threads: number;
  readonly cpuCapability: string;
  /** GPUs that torch can use; 0 where its CUDA part is not loaded. */
  readonly cudaDevices: number;
  /** The file of the CUDA library in use. */
  readonly cudaLibrary?: string;
  /** Why there is none, where libtorch_cuda is loaded. */
  readonly cudaLibraryProblem?: string;
  readonly addonVersion: string;
}

/** Outcome of one backward pass: the mean loss, right answers and images of the batch. */
export interface PassOutcome {
  readonly loss: number;
  readonly correct: number;
  readonly count: number;
}

/** What rounding made of the perturbation of a model that computes in 16 bits. */
export interface RoundingOutcome {
  readonly ratio: number;
  readonly cosine: number;
  readonly factor: number;
}

/** Outcome of `ascentStep`: the norm of the gradient at w, and whether it was finite (if not, the step is skipped). */
export interface AscentOutcome {
  readonly gradientNorm: number | null;
  readonly finite: boolean;
  readonly rounding: RoundingOutcome | null;
  readonly secondPass: boolean;
}

/** Outcome of `descentStep` and `baseStep`. */
export interface DescentOutcome {
  readonly gradientNorm: number | null;
  readonly finite: boolean;
  readonly rounding: RoundingOutcome | null;
}

/** Outcome of a whole step on one batch. */
export interface StepOutcome extends PassOutcome {
  readonly perturbedLoss: number | null;
  readonly sharpness: number | null;
  readonly gradientNorm: number | null;
  readonly finite: boolean;
  readonly rounding: RoundingOutcome | null;
  readonly lossScale: number | null;
}

/** One parameter group's settings as they stand now. */
export interface GroupState {
  readonly lr: number;
  readonly weightDecay: number;
  readonly momentum?: number | null;
  readonly rho?: number | null;
  readonly [key: string]: unknown;
}

/** Which weights a file or record lacked, which it had that the model does not know, and which have another shape. */
export interface LoadReport {
  readonly missing: string[];
  readonly unexpected: string[];
  readonly mismatched: { readonly name: string; readonly found: number[]; readonly expected: number[] }[];
}

/** How weights are found and named. */
export interface LoadOptions {
  readonly strict: boolean;
  readonly prefix?: string;
  readonly key?: string;
  readonly map?: Record<string, string | null>;
}

/** One entry of a prediction, most probable first. */
export interface Prediction {
  readonly label: number;
  readonly name: string;
  readonly probability: number;
}

/** Result of `evaluate`; further metrics appear under their own names. */
export interface EvaluationOutcome {
  readonly count: number;
  readonly loss: number;
  readonly accuracy: number;
  readonly top5?: number;
  readonly [metric: string]: unknown;
}

/** Mean and standard deviation of each channel, for pixels scaled to [0, 1]. */
export interface NormalizationValues {
  readonly mean: number[];
  readonly std: number[];
}

export interface BindingTensor {
  readonly shape: number[];
  readonly dtype: string;
  readonly device: string;
  data(): Promise<TensorData>;
  dispose(): void;
}

export interface BindingTensorStatic {
  fromFloat32(data: Float32Array, shape: number[]): BindingTensor;
  fromFloat64(data: Float64Array, shape: number[]): BindingTensor;
  fromUint8(data: Uint8Array, shape: number[]): BindingTensor;
  fromInt64(data: BigInt64Array, shape: number[]): BindingTensor;
}

export interface BindingDataset {
  readonly length: number;
  readonly name: string;
  /** Height, width, channels. */
  readonly shape: number[];
  readonly classNames: string[];
  readonly numClasses: number;
  readonly normalization: NormalizationValues;
  labels(): Uint32Array;
  pixels(index: number): Float32Array;
  label(index: number): number;
  imageName(index: number): string | null;
  withSize(height: number, width: number, resize: number): BindingDataset;
  faults(): { count: number; messages: string[] };
  split(sizes: number[], seed: number): BindingDataset[];
  withLabelNoise(fraction: number, seed: number): BindingDataset;
  take(count: number): BindingDataset;
}

/** One epoch, read batch by batch. */
export interface BindingBatches {
  /** Classes [batch], or their distribution [batch, classes] in a mixed batch; null after the last. */
  next(): Promise<{ images: BindingTensor; labels: BindingTensor } | null>;
  /** Resolves when the threads have ended. */
  close(): Promise<void>;
}

export interface BindingBatchesStatic {
  start(dataset: BindingDataset, config: object, epoch: number, startBatch: number): BindingBatches;
}

export interface ArrayDatasetOptions {
  readonly classNames?: string[];
  readonly numClasses?: number;
  readonly name?: string;
}

export interface BindingDatasetStatic {
  digits(): BindingDataset;
  /** From files: `{ type: 'cifar10', dir, split }` and the other sources. */
  open(source: { readonly type: string; readonly [option: string]: unknown }): Promise<BindingDataset>;
  /** `shape` is [images, height, width, channels]. */
  fromUint8(images: Uint8Array, shape: number[], labels: Uint32Array, options: ArrayDatasetOptions): BindingDataset;
  fromFloat32(images: Float32Array, shape: number[], labels: Uint32Array, options: ArrayDatasetOptions): BindingDataset;
}

/** Long work on data sets, on a thread of its own. */
export interface BindingDataJob {
  /** The report; once. */
  result(): Promise<object>;
  /** Items done, and all of them (0: not known yet). */
  progress(): number[];
  stop(): void;
}

export interface BindingDataJobStatic {
  inspect(dataset: BindingDataset, threads: number): BindingDataJob;
  pack(dataset: BindingDataset, directory: string, options: object, threads: number): BindingDataJob;
  verify(directory: string, threads: number): BindingDataJob;
  preview(dataset: BindingDataset, file: string, options: object): BindingDataJob;
}

export interface BindingModel {
  readonly spec: object;
  readonly dtype: string;
  readonly device: string;
  to(device: string): Promise<void>;
  readonly parameterCount: number;
  summary(): object;
  forward(images: BindingTensor, options: { train?: boolean }): Promise<BindingTensor>;
  backward(
    images: BindingTensor,
    labels: BindingTensor,
    options: { loss: object; seed?: number },
  ): Promise<PassOutcome>;
  /** A copy of one parameter's gradient, null while it has none. */
  gradient(name: string): BindingTensor | null;
  evaluate(
    dataset: BindingDataset,
    options: {
      batchSize: number;
      loss: object;
      metrics: string[];
      limit?: number;
      mirror?: boolean;
      normalization?: NormalizationValues;
    },
  ): Promise<EvaluationOutcome>;
  predict(images: BindingTensor, options: { topK: number }): Promise<Prediction[][]>;
  predictFiles(paths: string[], options: { topK: number }): Promise<Prediction[][]>;
  save(path: string): Promise<void>;
  exportOnnx(path: string): Promise<void>;
  loadWeights(path: string, options: LoadOptions): Promise<LoadReport>;
  stateDict(): Promise<Record<string, BindingTensor>>;
  loadStateDict(record: Record<string, BindingTensor>, options: LoadOptions): Promise<LoadReport>;
  readonly frozen: string[];
  freeze(patterns: string[]): void;
  unfreeze(patterns: string[]): void;
  replace(name: string, layer: object, options: { seed: number }): Promise<BindingModel>;
  setClassNames(names: string[]): void;
  setNormalization(normalization: NormalizationValues): void;
  dispose(): void;
}

export interface BindingModelStatic {
  create(spec: object, options: { dtype: string; seed: number; device: string }): BindingModel;
  load(path: string, options: { dtype?: string; device: string }): Promise<BindingModel>;
  specIn(path: string): object | null;
  fromTorchScript(path: string, options: object, place: { dtype: string; device: string }): Promise<BindingModel>;
}

export interface BindingOptimizer {
  readonly groupCount: number;
  readonly phase: 'clean' | 'perturbed' | 'ready';
  readonly steps: number;
  readonly skipped: number;
  readonly lossScale: number | null;
  ascentStep(): Promise<AscentOutcome>;
  descentStep(): Promise<DescentOutcome>;
  baseStep(): Promise<DescentOutcome>;
  step(
    images: BindingTensor,
    labels: BindingTensor,
    options: { loss: object; seed?: number; accumulate?: number },
  ): Promise<StepOutcome>;
  clearGradients(): void;
  group(index: number): GroupState;
  setGroup(index: number, key: string, value: number): void;
  dispose(): void;
}

export interface BindingOptimizerStatic {
  create(model: BindingModel, config: object): BindingOptimizer;
}

export interface BindingRun {
  /** The next event, null after the last; rejects with the run's error once the events before it are read. */
  next(): Promise<object | null>;
  acknowledge(control: object): void;
  stop(): void;
  abort(): void;
}

export interface BindingRunStatic {
  start(
    model: BindingModel,
    optimizer: BindingOptimizer,
    datasets: { train: BindingDataset; validation?: BindingDataset; test?: BindingDataset },
    config: object,
    resume?: string,
  ): BindingRun;
}

/** A measurement: `report` is called while it goes, `stop` makes it reject. */
export interface BindingAnalysis {
  stop(): void;
  sharpness(model: BindingModel, dataset: BindingDataset, options: object): Promise<object>;
  hessian(
    model: BindingModel,
    dataset: BindingDataset,
    options: object,
  ): Promise<{ report: object; vectors: Record<string, BindingTensor>[] }>;
  interpolation(model: BindingModel, other: BindingModel, dataset: BindingDataset, options: object): Promise<object>;
  surface(model: BindingModel, dataset: BindingDataset, options: object): Promise<object>;
  trajectory(model: BindingModel, files: string[], dataset: BindingDataset, options: object): Promise<object>;
  margins(model: BindingModel, dataset: BindingDataset, options: object): Promise<object>;
}

export type BindingAnalysisStatic = new (
  report: (progress: { done: number; total: number }) => void,
) => BindingAnalysis;

/** Milliseconds of each step of one block: of a whole one (`train`), or of its two halves (`step`). */
export interface BenchBlock {
  readonly ascentMs?: number[];
  readonly descentMs?: number[];
  /** A copy of one arena, beside them. */
  readonly copyMs?: number[];
  readonly stepMs?: number[];
  readonly loss?: number;
}

export interface BindingBench {
  /** Runs a block of steps. */
  run(steps: number): Promise<BenchBlock>;
  dispose(): void;
}

export interface BindingBenchStatic {
  create(kind: 'step' | 'train' | 'loop' | 'data', options: object): BindingBench;
}

/** Everything the addon exports. */
export interface Binding {
  load(options: { threads?: number; cudaLibraries?: string; cuda?: object }): void;
  info(): NativeInfo;
  /** Name and memory of a GPU, where the CUDA library can tell. */
  gpu(index: number): string | null;
  zooNames(): string[];
  zooSpec(name: string, options: object): object;
  specSummary(spec: object, options: { dtype?: string }): object;
  readonly BindingTensor: BindingTensorStatic;
  readonly BindingDataset: BindingDatasetStatic;
  readonly BindingBatches: BindingBatchesStatic;
  readonly BindingDataJob: BindingDataJobStatic;
  readonly BindingModel: BindingModelStatic;
  readonly BindingOptimizer: BindingOptimizerStatic;
  readonly BindingRun: BindingRunStatic;
  readonly BindingAnalysis: BindingAnalysisStatic;
  readonly BindingBench: BindingBenchStatic;
}
