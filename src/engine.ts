// The native optimizer behind a chain of TypeScript ones: `new ASAM(new SGD(model))` is one engine with both configs.
// It is created at first use, because only then the outermost wrapper is known.

import { alive, call } from './call.js';
import { type Model, nativeModel } from './model.js';
import type { BindingOptimizer } from './native/binding.js';
import { loadNative } from './native/index.js';
import type { Clip, Decay, GroupConfig } from './options/groups.js';
import type { LossScale } from './options/optimizer.js';
import type { SharpnessRules } from './options/presets.js';
import type { GroupSettings, GroupStore } from './parameter-group.js';

/** What the native optimizer is created from. */
export interface OptimizerConfig {
  base: {
    type: 'sgd' | 'adam' | 'adamw';
    lr: number;
    weightDecay: number;
    momentum?: number;
    [option: string]: unknown;
  };
  decay?: Decay | undefined;
  clip?: Clip | null | undefined;
  lossScale?: LossScale | undefined;
  groups: GroupConfig[];
  sharpness: SharpnessRules | null;
}

/** One native optimizer, shared by a base optimizer and its wrapper. */
export class Engine implements GroupStore {
  readonly model: Model;
  readonly config: OptimizerConfig;
  #native: BindingOptimizer | undefined;
  #disposed = false;

  constructor(model: Model, config: OptimizerConfig) {
    this.model = model;
    this.config = structuredClone(config);
  }

  /** The native optimizer, created now if need be. */
  get native(): BindingOptimizer {
    alive(this.#disposed ? undefined : this, 'optimizer');
    this.#native ??= call(() => {
      const { decay = 'optimizer', clip = null } = this.config;
      return loadNative().BindingOptimizer.create(nativeModel(this.model), { ...this.config, decay, clip });
    });
    return this.#native;
  }

  /** Whether the native optimizer exists, and with it state that a new wrapper would lose. */
  get started(): boolean {
    return this.#native !== undefined;
  }

  get groupCount(): number {
    return 1 + this.config.groups.length;
  }

  read(index: number): GroupSettings {
    const native = this.#native;
    if (native) return call(() => native.group(index));
    const { base, sharpness } = this.config;
    const own = this.config.groups[index - 1];
    return {
      lr: own?.lr ?? base.lr,
      weightDecay: own?.weightDecay ?? base.weightDecay,
      momentum: own?.momentum ?? base.momentum ?? null,
      rho: own?.rho ?? sharpness?.rho ?? null,
    };
  }

  write(index: number, key: keyof GroupSettings, value: number): void {
    const native = this.#native;
    const own = this.config.groups[index - 1];
    if (native) call(() => native.setGroup(index, key, value));
    else if (own) own[key] = value;
    else if (key === 'rho' && this.config.sharpness) this.config.sharpness.rho = value;
    else this.config.base[key] = value;
  }

  dispose(): void {
    this.#native?.dispose();
    this.#native = undefined;
    this.#disposed = true;
  }
}
