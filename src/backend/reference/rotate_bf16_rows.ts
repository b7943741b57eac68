/** rotateBf16Rows: see `CpuKernels`, `asm/rotate.ts`. */

import { checkRotatedRows } from "../kernel_checks.ts";
import { absmax } from "./absmax.ts";
import { decode } from "./decode.ts";
import { rotate } from "./rotate.ts";

/** Decodes and rotates rows of BF16 values, and finds the largest magnitude of each; `add`: what x holds is added first. */
export function rotateBf16Rows(
  x: Float32Array,
  largest: Float32Array,
  source: Uint8Array,
  groupSize: number,
  add = false,
): void {
  const { cols } = checkRotatedRows({ x, largest, source, groupSize });
  if (x.length === 0) {
    largest.fill(0);
    return;
  }
  const added = add ? x.slice() : null;
  decode(x, source, "BF16");
  added?.forEach((value, i) => x[i]! += value);
  rotate(x, groupSize);
  absmax(largest, x, { rows: largest.length, cols, groupRows: 1, groupCols: cols });
}
