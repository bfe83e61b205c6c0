// Tensor: copies in and out, dtypes, shapes, disposal.

import { describe, expect, it } from 'vitest';
import { Tensor } from '../src/index.js';
import { errorOf } from './support.js';

describe('Tensor.from', () => {
  it.each([
    [Float32Array.of(1.5, -2), 'float32'],
    [Float64Array.of(1.5, -2), 'float64'],
    [Uint8Array.of(1, 255), 'uint8'],
    [BigInt64Array.of(-1n, 2n ** 40n), 'int64'],
  ] as const)('keeps the dtype and the values of a %s', async (data, dtype) => {
    const tensor = Tensor.from(data, [2, 1]);
    expect([tensor.dtype, tensor.shape, tensor.device]).toEqual([dtype, [2, 1], 'cpu']);
    expect(await tensor.data()).toEqual(data);
  });

  it('makes one dimension of plain numbers, int64 of Int32Array, and what dtype says', async () => {
    expect(Tensor.from([1, 2, 3])).toMatchObject({ shape: [3], dtype: 'float32' });
    expect(await Tensor.from(Int32Array.of(-7)).data()).toEqual(BigInt64Array.of(-7n));
    expect(await Tensor.from([1, 2], [2], { dtype: 'int64' }).data()).toEqual(BigInt64Array.of(1n, 2n));
    expect(await Tensor.from(Uint8Array.of(3), [], { dtype: 'float64' }).item()).toBe(3);
  });

  it('copies: neither side sees a later change of the other', async () => {
    const array = Float32Array.of(1, 2);
    const tensor = Tensor.from(array);
    array[0] = 9;
    const read = await tensor.data();
    expect(Array.from(read as Float32Array)).toEqual([1, 2]);
    read[1] = 9;
    expect(Array.from((await tensor.data()) as Float32Array)).toEqual([1, 2]);
  });

  it('reads a part of a larger buffer', async () => {
    const tensor = Tensor.from(Float32Array.of(0, 1, 2, 3).subarray(1, 3));
    expect(await tensor.data()).toEqual(Float32Array.of(1, 2));
  });

  it.each([
    [
      'a shape that does not hold the values',
      () => Tensor.from([1, 2, 3], [2, 2]),
      'ERR_FLATMIN_SHAPE',
      'found 3 values for shape [2, 2], expected 4',
    ],
    ['a shape that is none', () => Tensor.from([1], [-1]), 'ERR_FLATMIN_OPTION', 'found -1'],
    ['data that is none', () => Tensor.from('abc' as never), 'ERR_FLATMIN_OPTION', 'found "abc"'],
    [
      'an unknown dtype',
      () => Tensor.from([1], [1], { dtype: 'foat64' as never }),
      'ERR_FLATMIN_OPTION',
      "did you mean 'float64'?",
    ],
    ['a fraction as int64', () => Tensor.from([1.5], [1], { dtype: 'int64' }), 'ERR_FLATMIN_DTYPE', 'found 1.5'],
    ['300 as uint8', () => Tensor.from([300], [1], { dtype: 'uint8' }), 'ERR_FLATMIN_DTYPE', 'found 300'],
    ['the item of many values', () => Tensor.from([1, 2]).item(), 'ERR_FLATMIN_SHAPE', 'expected one'],
  ])('refuses %s', async (_what, action, code, message) => {
    expect(await errorOf(action)).toMatchObject({ code, message: expect.stringContaining(message) });
  });
});

describe('Tensor.dispose', () => {
  it('may be called twice; any use after it is an error', async () => {
    const tensor = Tensor.from([1]);
    tensor.dispose();
    tensor[Symbol.dispose]();
    expect(await errorOf(() => tensor.shape)).toMatchObject({ code: 'ERR_FLATMIN_DISPOSED' });
    expect(await errorOf(() => tensor.data())).toMatchObject({ code: 'ERR_FLATMIN_DISPOSED' });
  });
});
