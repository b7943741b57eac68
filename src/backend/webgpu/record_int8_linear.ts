/**
 * A layer as the runtime computes it from int8: inputs quantized per row when they arrive, exact integer
 * products, scales applied in f32. The kernels are exact, so that outputs are the bits of
 * `quant/int8_ops.ts`.
 */

import { type Grid, groupCount } from "../backend.ts";
import type { Batch, Slot } from "./batch.ts";
import { recordGemmI8 } from "./record_products.ts";
import * as shaders from "./shaders.ts";
import {
  recordAbsmax,
  recordQuantize,
  recordRotate,
  recordScaleFromAbsmax,
} from "./webgpu_kernels.ts";

/** A layer in a batch. */
export interface Int8LinearSlots {
  /** In: f32 `[m, grid.cols]`; used up if it is rotated. */
  readonly x: Slot;
  readonly m: number;
  /** i8 `[grid.rows, grid.cols]`, four in a word. */
  readonly codes: Slot;
  /** f32, row-major over the groups of `grid`. */
  readonly scales: Slot;
  readonly grid: Grid;
  /** Group in which inputs are rotated before they are quantized; null: none. */
  readonly convrotGroupSize: number | null;
}

/** Records out = x · Wᵀ. `out` f32 `[m, grid.rows]`. */
export function recordInt8Linear(batch: Batch, out: Slot, args: Int8LinearSlots): void {
  const { x, m, grid, scales, convrotGroupSize } = args;
  const { rows: n, cols: k, groupRows, groupCols } = grid;
  const inputs: Grid = { rows: m, cols: k, groupRows: 1, groupCols: k };
  if (m * n === 0) return;
  if (convrotGroupSize !== null) recordRotate(batch, x, m * k, convrotGroupSize);
  const xScales = batch.scratch("scales of inputs", 4 * groupCount(inputs));
  const xCodes = batch.scratch("codes of inputs", m * k);
  recordAbsmax(batch, xScales, x, inputs);
  recordScaleFromAbsmax(batch, xScales, m);
  recordQuantize(batch, xCodes, { x, scales: xScales, grid: inputs });
  const sums = batch.scratch("integer products", 4 * m * n), across = k / groupCols;
  for (let group = 0; group < across; group++) {
    const place = { start: group * groupCols, rowStride: k };
    recordGemmI8(batch, sums, {
      a: { slot: xCodes, ...place },
      b: { slot: args.codes, ...place },
      ...{ m, n, k: groupCols },
    });
    const params = { count: m * n, n, across, groupRows, group, zero: 0 };
    const workgroups = Math.ceil(m * n / 256);
    batch.dispatch(shaders.scaledProduct, [out, sums, xScales, scales], params, workgroups);
  }
}
