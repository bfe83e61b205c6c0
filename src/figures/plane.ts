// Losses of two weights in float64: neighbourhoods, the largest loss in them, perturbations and gradient steps.
// Two weights are enough to see what a method does, and few enough to compute exactly.

/** A point of the plane of two weights. */
export type Weights = readonly [number, number];

/** Loss of two weights. */
export type Loss = (w: Weights) => number;

/** Gradient of a loss. */
export type Gradient = (w: Weights) => Weights;

/** Diagonal of T_w: ones for SAM, absolute weights (plus eta) for element-wise ASAM. */
export type Scale = (w: Weights) => Weights;

/** SAM: the ball is round. */
export const plain: Scale = () => [1, 1];

/** ASAM, element-wise: T_w = diag(abs(w) + eta) (Kwon 2021, section 3). */
export const elementWise =
  (eta = 0): Scale =>
  ([a, b]) => [Math.abs(a) + eta, Math.abs(b) + eta];

export const norm = ([a, b]: Weights) => Math.hypot(a, b);

/** The point of the neighbourhood's border at an angle: w + rho T_w (cos, sin). */
export function borderPoint(w: Weights, rho: number, scale: Scale, angle: number): Weights {
  const [s, t] = scale(w);
  return [w[0] + rho * s * Math.cos(angle), w[1] + rho * t * Math.sin(angle)];
}

/** The neighbourhood's border as a closed polygon. */
export function border(w: Weights, rho: number, scale: Scale, points = 180): Weights[] {
  return Array.from({ length: points + 1 }, (_, index) =>
    borderPoint(w, rho, scale, (2 * Math.PI * (index % points)) / points),
  );
}

/** Angles that are tried before the best one is refined. */
const ANGLES = 720;
/** Each step of the golden section leaves 0.618 of the interval; these leave nothing that float64 can tell. */
const REFINEMENTS = 60;
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/**
 * Sharpness: the largest loss with norm2(T_w^-1 (v - w)) <= rho, minus the loss at w (Foret 2020, equation 1; Kwon 2021,
 * equation 2). The losses drawn here are largest on the border, so it is searched there: by a scan, then a golden section.
 */
export function sharpness(loss: Loss, w: Weights, rho: number, scale: Scale): number {
  const at = (angle: number) => loss(borderPoint(w, rho, scale, angle));
  const step = (2 * Math.PI) / ANGLES;
  let best = 0;
  for (let index = 1; index < ANGLES; index += 1) if (at(index * step) > at(best * step)) best = index;
  let [low, high] = [(best - 1) * step, (best + 1) * step];
  for (let index = 0; index < REFINEMENTS; index += 1) {
    const [left, right] = [high - GOLDEN * (high - low), low + GOLDEN * (high - low)];
    if (at(left) < at(right)) low = left;
    else high = right;
  }
  return Math.max(at(best * step), at((low + high) / 2)) - loss(w);
}

/** eps = rho T_w^2 g / norm2(T_w g), or nothing where the gradient is zero. */
export function perturbation(g: Weights, w: Weights, rho: number, scale: Scale): Weights {
  const [s, t] = scale(w);
  const length = norm([s * g[0], t * g[1]]);
  return length === 0 ? [0, 0] : [(rho * s * s * g[0]) / length, (rho * t * t * g[1]) / length];
}

/** One sharpness-aware step of gradient descent; rho 0 is plain descent. */
export function step(gradient: Gradient, w: Weights, lr: number, rho: number, scale: Scale): Weights {
  const [e, f] = perturbation(gradient(w), w, rho, scale);
  const [g, h] = gradient([w[0] + e, w[1] + f]);
  return [w[0] - lr * g, w[1] - lr * h];
}
