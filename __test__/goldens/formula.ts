// The numbers that the golden runs start from: weights, images and labels by a formula of (name, index).
// The twin of formula.py, bit for bit: integer arithmetic modulo 2^32, then float64 operations in the same order.

/** The 32-bit FNV-1a hash of a name's UTF-8 bytes. */
function fnv1a32(text: string): number {
  let value = 0x811c9dc5;
  for (const byte of Buffer.from(text)) value = Math.imul(value ^ byte, 0x01000193);
  return value >>> 0;
}

/** 32-bit integers of the stream `name`: the murmur3 finaliser of fnv1a32(name) + (index + 1) * 0x9e3779b9. */
function integers(name: string, count: number): Uint32Array {
  const values = new Uint32Array(count);
  let counter = fnv1a32(name);
  for (let i = 0; i < count; i++) {
    counter = (counter + 0x9e3779b9) | 0;
    let x = Math.imul(counter ^ (counter >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    values[i] = x ^ (x >>> 16);
  }
  return values;
}

/** Numbers in [-1, 1): integers / 2^31 - 1, without rounding. */
export function uniform(name: string, count: number): Float64Array {
  return Float64Array.from(integers(name, count), (x) => x / 2 ** 31 - 1);
}

/** `count` whole numbers below `below`. */
export function choose(name: string, count: number, below: number): number[] {
  return Array.from(integers(name, count), (x) => Math.floor((x * below) / 2 ** 32));
}

/** The start of one floating-point entry of a state dict, by the end of its name and its dimensions. */
export function tensorValue(name: string, shape: readonly number[]): Float64Array {
  const count = shape.reduce((product, size) => product * size, 1);
  const u = uniform(name, count);
  if (shape.length > 1) {
    const bound = Math.sqrt(6 / (count / (shape[0] as number)));
    return u.map((x) => bound * x);
  }
  if (name.endsWith('running_var') || name.endsWith('weight')) return u.map((x) => 1 + 0.25 * x);
  return u.map((x) => 0.1 * x);
}

/** The images of a step, flat in the order [batch, channels, height, width]. */
export function images(step: number, shape: readonly number[]): Float64Array {
  const count = shape.reduce((product, size) => product * size, 1);
  return uniform(`images/${step}`, count).map((x) => 1.5 * x);
}

/** The labels of a step. */
export function labels(step: number, batch: number, numClasses: number): number[] {
  return choose(`labels/${step}`, batch, numClasses);
}

/** What is kept of a large tensor; see formula.py. */
export interface Summary {
  rms: number;
  mean: number;
  projections: number[];
  elements: number[];
}

const directions = new Map<string, Float64Array>();

/** The direction of a projection; kept, since every case of a net needs the same ones. Two nets may share a name. */
function direction(name: string, count: number): Float64Array {
  const key = `${name}/${count}`;
  const kept = directions.get(key) ?? uniform(name, count);
  directions.set(key, kept);
  return kept;
}

/** Root mean square, mean, four projections on formula vectors over sqrt(n), and eight elements. */
export function summary(name: string, values: Float64Array | Float32Array): Summary {
  const count = values.length;
  let squares = 0;
  let sum = 0;
  for (const value of values) {
    squares += value * value;
    sum += value;
  }
  const projections = [0, 1, 2, 3].map((k) => {
    const along = direction(`projection/${k}/${name}`, count);
    return along.reduce((total, weight, i) => total + weight * (values[i] as number), 0) / Math.sqrt(count);
  });
  const elements = choose(`elements/${name}`, 8, count).map((i) => values[i] as number);
  return { rms: Math.sqrt(squares / count), mean: sum / count, projections, elements };
}
