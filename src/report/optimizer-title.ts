// Name of an optimizer as config.json describes it: that of its class.

interface OptimizerConfig {
  readonly base: { readonly type: string };
  readonly sharpness?: unknown;
}

interface Sharpness {
  readonly scale?: string;
  readonly perturb?: string;
  readonly probability?: number;
  readonly variant?: { readonly type?: string };
}

const BASES: Readonly<Record<string, string>> = { sgd: 'SGD', adam: 'Adam', adamw: 'AdamW' };

const VARIANTS: Readonly<Record<string, string>> = {
  ...{ gsam: 'GSAM', looksam: 'LookSAM', esam: 'ESAM', grst: 'GRST', wsam: 'WSAM', fsam: 'FSAM', msam: 'MSAM' },
  ...{ random: 'RandomPerturbation', extragradient: 'Extragradient' },
};

/** `ASAM`, `SAM (Adam)`, `SGD`. SGD goes without saying in a wrapper. */
export function optimizerTitle({ base, sharpness }: OptimizerConfig): string {
  const inner = BASES[base.type] ?? base.type;
  if (sharpness === null || sharpness === undefined) return inner;
  const title = wrapperTitle(sharpness as Sharpness);
  return inner === 'SGD' ? title : `${title} (${inner})`;
}

function wrapperTitle({ variant, scale = 'none', perturb, probability = 1 }: Sharpness): string {
  const type = variant?.type ?? 'sam';
  if (type !== 'sam') return VARIANTS[type] ?? type;
  if (probability < 1) return 'RST';
  if (perturb === 'norms') return 'SAMON';
  return scale === 'none' ? 'SAM' : 'ASAM';
}
