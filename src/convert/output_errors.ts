/** Errors of layer outputs: what rounding does to `XWᵀ`, as opposed to W. */

import type { MeasuredOn } from "../calibration/layer_inputs.ts";
import {
  type LayerErrors,
  numbersOf,
  type TaskNumbers,
  worstLayersFirst,
} from "../run/layer_statistics.ts";

/** Relative errors of the outputs of one layer, `‖XWᵀ − Y‖ / ‖XWᵀ‖`. */
export interface OutputErrors {
  /** Inputs as they are. */
  readonly w8a16: number;
  /** Inputs quantized per row to int8 as the runtime does; null if there are no inputs. */
  readonly w8a8: number | null;
  /** The inputs that they were measured with. */
  readonly on: MeasuredOn;
  /** How many inputs; null if it was a Hessian. */
  readonly rows: number | null;
  /** Sum of the squares of the outputs that they are relative to. */
  readonly signal: number;
}

/** Returns the errors for the sums of a measuring task; null if its outputs are zero, or not numbers. */
export function outputErrors(
  numbers: TaskNumbers,
  { on, rows, isInt8 }: { on: MeasuredOn; rows: number; isInt8: boolean },
): OutputErrors | null {
  const { signal, errorA16, errorA8 } = numbersOf("measure", numbers);
  const ratio = (error: number) => Math.sqrt(Math.max(0, error) / signal);
  const w8a16 = ratio(errorA16), w8a8 = ratio(errorA8);
  if (!(signal > 0) || !Number.isFinite(w8a16) || !Number.isFinite(w8a8)) return null;
  const isHessian = on === "hessian";
  return {
    w8a16,
    w8a8: isHessian || !isInt8 ? null : w8a8,
    on,
    rows: isHessian ? null : rows,
    signal,
  };
}

/** Geometric means over layers. */
export interface OverallOutput {
  readonly w8a16: number;
  /** Over the layers that have it; null if none has. */
  readonly w8a8: number | null;
  /** How many layers were measured. */
  readonly layers: number;
  /** The inputs that they were measured with, if they are the same for all. */
  readonly on: MeasuredOn | "mixed";
}

/** Returns the geometric means; null if nothing was measured. A layer without error counts as 1e-9. */
export function overallOutput(
  layers: readonly { readonly output?: OutputErrors | null }[],
): OverallOutput | null {
  const measured = layers.flatMap(({ output }) => output ?? []);
  if (measured.length === 0) return null;
  const mean = (values: readonly number[]) =>
    Math.exp(values.reduce((sum, x) => sum + Math.log(Math.max(x, 1e-9)), 0) / values.length);
  const full = measured.flatMap(({ w8a8 }) => w8a8 ?? []);
  const { on } = measured[0]!;
  return {
    w8a16: mean(measured.map(({ w8a16 }) => w8a16)),
    w8a8: full.length === 0 ? null : mean(full),
    layers: measured.length,
    on: measured.every((errors) => errors.on === on) ? on : "mixed",
  };
}

/** Returns the layers by falling output error; those without one follow, by falling weight error. */
export function worstFirst<
  T extends { readonly errors: LayerErrors; readonly output?: OutputErrors | null },
>(layers: readonly T[]): T[] {
  const error = ({ output }: T) => output?.w8a16 ?? -1;
  return worstLayersFirst(layers).sort((a, b) => error(b) - error(a));
}
