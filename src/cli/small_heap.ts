/** Keeps the heap of the program small while it converts. */

import process from "node:process";

/** Most tensors of a model for which it pays: with more, collecting takes longer than what it gives back is worth. */
const MOST_TENSORS = 5_000;

/** What a run is like. */
export interface RunSize {
  readonly tensors: number;
  /** Whether it has calibration data. */
  readonly hasData: boolean;
}

/** What of the process this needs. */
export interface Runtime {
  readonly versions: Readonly<Record<string, string | undefined>>;
  readonly getBuiltinModule?: (name: "node:v8") => { setFlagsFromString(flags: string): void };
}

/**
 * Lets V8 of Node give memory back after every collection, from now on, in all threads. The main thread makes few
 * objects after its plan, but V8 keeps what planning took: 8 to 10 of 115 MB in plain rows of 4 GB, which get no
 * slower. With calibration data the run would take 4 % more, and one of 10^5 layers 1.6 times as long, so both are left
 * as they are. Deno takes no flags of V8 at run time, Bun has no V8; Node below 20.16 cannot
 * be asked like this.
 */
export function keepHeapSmall(
  { tensors, hasData }: RunSize,
  { versions, getBuiltinModule }: Runtime = process as Runtime,
): void {
  if (versions["deno"] !== undefined || versions["bun"] !== undefined) return;
  if (hasData || tensors > MOST_TENSORS) return;
  getBuiltinModule?.("node:v8").setFlagsFromString("--optimize-for-size");
}
