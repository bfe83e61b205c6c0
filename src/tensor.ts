// Tensors: numbers with a shape, kept by libtorch. What goes in and out is copied, so a typed array stays the caller's own.

import { alive, call } from './call.js';
import { FlatminError } from './errors.js';
import type { BindingTensor } from './native/binding.js';
import { loadNative } from './native/index.js';
import { parseOptions, show } from './options/parse.js';
import {
  shapeSchema,
  type TensorDtype,
  type TensorOptions,
  type tensorDtypes,
  tensorSchema,
} from './options/tensor.js';

/** Arrays that become tensors. */
export type TensorData = Float32Array | Float64Array | Uint8Array | Int32Array | BigInt64Array | readonly number[];

/** Arrays that tensors become, by their dtype. */
export type TensorArray = Float32Array | Float64Array | Uint8Array | BigInt64Array;

let nativeOf: (tensor: Tensor) => BindingTensor;

/** A tensor of libtorch. Freed by `dispose()`, or when it is garbage collected. */
export class Tensor {
  #native: BindingTensor | undefined;

  /** @internal Use {@link Tensor.from}. */
  constructor(native: BindingTensor) {
    this.#native = native;
  }

  static {
    nativeOf = (tensor) => alive(tensor.#native, 'tensor');
  }

  /**
   * Copies an array into a tensor.
   * @param data Values in row-major order. Plain numbers become float32, Int32Array becomes int64.
   * @param shape Sizes of the dimensions (default: one dimension).
   * @throws `ERR_FLATMIN_SHAPE` when the shape does not hold `data.length` values, `ERR_FLATMIN_DTYPE` when a value does
   * not fit the dtype.
   */
  static from(data: TensorData, shape?: readonly number[], options: TensorOptions = {}): Tensor {
    const source = checkData(data);
    const { dtype = source.dtype } = parseOptions(tensorSchema, options, 'Tensor.from');
    const sizes = shape === undefined ? [data.length] : parseOptions(shapeSchema, shape, 'Tensor.from shape');
    checkCount(data.length, sizes);
    const { BindingTensor: binding } = loadNative();
    switch (dtype) {
      case 'float32':
        return new Tensor(
          call(() => binding.fromFloat32(data instanceof Float32Array ? data : Float32Array.from(data, Number), sizes)),
        );
      case 'float64':
        return new Tensor(
          call(() => binding.fromFloat64(data instanceof Float64Array ? data : Float64Array.from(data, Number), sizes)),
        );
      case 'uint8':
        return new Tensor(call(() => binding.fromUint8(data instanceof Uint8Array ? data : toUint8(data), sizes)));
      case 'int64':
        return new Tensor(call(() => binding.fromInt64(data instanceof BigInt64Array ? data : toInt64(data), sizes)));
    }
  }

  /** Sizes of the dimensions. */
  get shape(): number[] {
    return nativeOf(this).shape;
  }

  /** Number type: float32, float64, bfloat16, uint8 or int64. */
  get dtype(): TensorDtype {
    return nativeOf(this).dtype as TensorDtype;
  }

  /** Where the numbers lie: `cpu`. */
  get device(): string {
    return nativeOf(this).device;
  }

  /** The values in row-major order, copied out; int64 gives a BigInt64Array, bfloat16 a Float32Array (exactly). */
  async data(): Promise<TensorArray> {
    return call(() => nativeOf(this).data() as Promise<TensorArray>);
  }

  /** The value of a tensor with one element. */
  async item(): Promise<number> {
    const values = await this.data();
    if (values.length !== 1) {
      throw new FlatminError(
        'ERR_FLATMIN_SHAPE',
        `Tensor.item: found ${values.length} values in shape ${show(this.shape)}, expected one`,
      );
    }
    return Number(values[0]);
  }

  /** Frees the memory now; a second call does nothing. */
  dispose(): void {
    this.#native?.dispose();
    this.#native = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** @internal The native object of a tensor. */
export const nativeTensor = (tensor: Tensor): BindingTensor => nativeOf(tensor);

/** @internal Checks an argument that must be a tensor. */
export function requireTensor(value: unknown, argument: string): Tensor {
  if (value instanceof Tensor) return value;
  throw new FlatminError(
    'ERR_FLATMIN_OPTION',
    `${argument}: found ${show(value)}, expected a Tensor; make one with Tensor.from(array, shape)`,
  );
}

function checkData(data: unknown): { dtype: (typeof tensorDtypes)[number] } {
  if (data instanceof Float32Array) return { dtype: 'float32' };
  if (data instanceof Float64Array) return { dtype: 'float64' };
  if (data instanceof Uint8Array) return { dtype: 'uint8' };
  if (data instanceof Int32Array || data instanceof BigInt64Array) return { dtype: 'int64' };
  if (Array.isArray(data) && data.every((value) => typeof value === 'number')) return { dtype: 'float32' };
  throw new FlatminError(
    'ERR_FLATMIN_OPTION',
    `Tensor.from data: found ${show(data)}, expected a Float32Array, Float64Array, Uint8Array, Int32Array, BigInt64Array or an array of numbers`,
  );
}

function checkCount(count: number, shape: readonly number[]): void {
  const expected = shape.reduce((product, size) => product * size, 1);
  if (count === expected) return;
  throw new FlatminError(
    'ERR_FLATMIN_SHAPE',
    `Tensor.from: found ${count} values for shape [${shape.join(', ')}], expected ${expected}`,
  );
}

function toUint8(data: Exclude<TensorData, Uint8Array>): Uint8Array {
  const fits = (value: number): boolean => Number.isInteger(value) && value >= 0 && value <= 255;
  return Uint8Array.from(data, (value: number | bigint) => whole(value, fits, 'uint8 (whole numbers from 0 to 255)'));
}

function toInt64(data: Exclude<TensorData, BigInt64Array>): BigInt64Array {
  if (data instanceof Int32Array || data instanceof Uint8Array) return BigInt64Array.from(data, BigInt);
  return BigInt64Array.from(data as readonly number[], (value) =>
    BigInt(whole(value, Number.isSafeInteger, 'int64 (safe whole numbers)')),
  );
}

function whole(value: number | bigint, fits: (value: number) => boolean, expected: string): number {
  const number = Number(value);
  if (fits(number)) return number;
  throw new FlatminError('ERR_FLATMIN_DTYPE', `Tensor.from: found ${value}, expected values of dtype ${expected}`);
}
