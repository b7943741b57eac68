/** Norms over the channels of tokens. Pure: sums in f64, one rounding to f32. */

import type { NormStep } from "../../presets/encoders/encoder_graph.ts";

/** A norm with its values, f32 `[cols]`. */
export interface NormValues extends Pick<NormStep, "kind" | "eps"> {
  /** With the 1 that Gemma adds. */
  readonly weight: Float32Array;
  /** Null: none. */
  readonly bias: Float32Array | null;
}

/** out = norm(x), one row of channels; `out` may be `x`. */
export function normRow(
  out: Float32Array,
  x: Float32Array,
  { kind, eps, weight, bias }: NormValues,
): void {
  const cols = x.length;
  let mean = 0, squares = 0;
  if (kind === "layer") {
    for (let k = 0; k < cols; k++) mean += x[k]!;
    mean /= cols;
  }
  for (let k = 0; k < cols; k++) squares += (x[k]! - mean) ** 2;
  const scale = 1 / Math.sqrt(squares / cols + eps);
  for (let k = 0; k < cols; k++) {
    out[k] = (x[k]! - mean) * scale * weight[k]! + (bias === null ? 0 : bias[k]!);
  }
}
