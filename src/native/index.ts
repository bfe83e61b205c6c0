// What the rest of the package may use of the native side: the typed binding and the function that loads it.

export type * from './binding.js';
export { type Loaded, type LoadOptions, loadDetailed, loadNative } from './load.js';
