// The weights that a linear net computes with at this moment, w + eps between ascent and descent: a state dict always tells w.

import { type Model, Tensor } from '../../src/index.js';

/** Weight and bias [classes * inputs, classes] of a net that is one linear layer, read through its outputs. */
export async function workingWeights(model: Model, inputs: number): Promise<{ weight: number[]; bias: number[] }> {
  const rows = new Float64Array((inputs + 1) * inputs);
  for (let index = 0; index < inputs; index += 1) rows[(index + 1) * inputs + index] = 1;
  const logits = await model.forward(Tensor.from(rows, [inputs + 1, 1, 1, inputs]));
  const outputs = Array.from(await logits.data(), Number);
  const classes = outputs.length / (inputs + 1);
  const bias = outputs.slice(0, classes);
  const weight = Array.from({ length: classes * inputs }, (_, place) => {
    const [row, column] = [Math.floor(place / inputs), place % inputs];
    return (outputs[(column + 1) * classes + row] as number) - (bias[row] as number);
  });
  return { weight, bias };
}
