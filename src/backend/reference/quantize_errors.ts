/** quantizeErrors, codeErrors, quantizeBf16Rows: see `CpuKernels`, `asm/quantize_errors.ts`. */

import type { Grid } from "../backend.ts";
import { checkBf16Rows } from "../kernel_checks.ts";
import { absmax } from "./absmax.ts";
import { decode } from "./decode.ts";
import { dequantize } from "./dequantize.ts";
import { errorStats } from "./error_stats.ts";
import { quantize } from "./quantize.ts";
import { scaleFromAbsmax } from "./scale_from_absmax.ts";

/** Rounds x and adds the errors to `stats`; x becomes the errors. */
export function quantizeErrors(
  codes: Int8Array,
  x: Float32Array,
  stats: Float64Array,
  scales: Float32Array,
  grid: Grid,
): void {
  quantize(codes, x, scales, grid);
  codeErrors(x, stats, codes, scales, grid);
}

/** Adds the errors of given codes to `stats`; x becomes the errors. */
export function codeErrors(
  x: Float32Array,
  stats: Float64Array,
  codes: Int8Array,
  scales: Float32Array,
  grid: Grid,
): void {
  const xhat = new Float32Array(x.length);
  dequantize(xhat, codes, scales, grid);
  errorStats(stats, x, xhat);
  for (let i = 0; i < x.length; i++) x[i] = x[i]! - xhat[i]!;
}

/** Rounds rows of BF16 values and adds the errors to `stats`. */
export function quantizeBf16Rows(
  codes: Int8Array,
  scales: Float32Array,
  stats: Float64Array,
  source: Uint8Array,
): void {
  const { cols } = checkBf16Rows({ codes, scales, stats, source });
  if (codes.length === 0) return;
  const x = new Float32Array(codes.length);
  const grid = { rows: scales.length, cols, groupRows: 1, groupCols: cols };
  decode(x, source, "BF16");
  absmax(scales, x, grid);
  scaleFromAbsmax(scales, scales);
  quantizeErrors(codes, x, stats, scales, grid);
}
