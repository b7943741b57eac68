/** Products with few terms, or of integers: their records for batches. Matrices may lie within larger ones. */

import { hasLanguageFeature } from "./adapter.ts";
import type { Batch, Slot } from "./batch.ts";
import * as shaders from "./shaders.ts";

/** Rows and columns of the tile that one workgroup makes. */
const TILE = 64;

/** Codes i8 in a buffer, four in a word. */
export interface CodesSlot {
  readonly slot: Slot;
  /** Of the first code, in bytes. No alignment is needed. */
  readonly start?: number;
  /** Bytes from row to row; as many as there are columns unless told. */
  readonly rowStride?: number;
}

/**
 * Records `gemmI8`: out[i, j] = sum over k of a[i, k] * b[j, k], at most GEMM_I8_TERMS_MAX terms.
 *
 * @param out i32 `[m, n]`.
 * @param args `a` m rows and `b` n rows of k codes; `packed`: whether to use `dot4I8Packed`, by default
 * if the language has it.
 */
export function recordGemmI8(
  batch: Batch,
  out: Slot,
  { a, b, m, n, k, packed = hasPackedDot() }: {
    readonly a: CodesSlot;
    readonly b: CodesSlot;
    readonly m: number;
    readonly n: number;
    readonly k: number;
    readonly packed?: boolean;
  },
): void {
  const params = {
    ...{ m, n, k },
    ...{
      aStart: a.start ?? 0,
      aRow: a.rowStride ?? k,
      bStart: b.start ?? 0,
      bRow: b.rowStride ?? k,
    },
  };
  const shader = packed ? shaders.gemmI8 : shaders.gemmI8Bits;
  batch.dispatch(shader, [out, a.slot, b.slot], params, tiles(m, n));
}

/** Whether the language has `dot4I8Packed`; the runtime emulates it on devices that do not. */
export function hasPackedDot(): boolean {
  return hasLanguageFeature("packed_4x8_integer_dot_product");
}

/** Records `addLowRank`, in place, to rows of `x` from element `start` on. */
export function recordAddLowRank(
  batch: Batch,
  x: Slot,
  { b, a, shape, start = 0 }: {
    readonly b: Slot;
    readonly a: Slot;
    readonly shape: { readonly rows: number; readonly cols: number; readonly rank: number };
    readonly start?: number;
  },
): void {
  const { rows, cols } = shape;
  const params = { ...shape, xStart: start, zero: 0 };
  batch.dispatch(shaders.addLowRank, [x, b, a], params, tiles(rows, cols));
}

/** A `ShortMatrix` on the device. */
export interface ShortSlot {
  readonly pairs: Slot;
  readonly scales: Slot;
}

/** Records `feedBack` into rows of `c` from element `start` on; rows of `e` beyond those of the shape are left alone. */
export function recordFeedBack(
  batch: Batch,
  c: Slot,
  { e, l, shape: { rows, cols, terms }, start = 0, rowStride = cols, add = true }: {
    readonly e: ShortSlot;
    readonly l: ShortSlot;
    readonly shape: { readonly rows: number; readonly cols: number; readonly terms: number };
    readonly start?: number;
    readonly rowStride?: number;
    readonly add?: boolean;
  },
): void {
  const params = {
    ...{ rows, cols, pairs: Math.ceil(terms / 2) },
    ...{ cStart: start, cRow: rowStride, add: Number(add), zero: 0 },
  };
  const slots = [c, e.pairs, e.scales, l.pairs, l.scales];
  batch.dispatch(shaders.feedBack, slots, params, tiles(rows, cols));
}

function tiles(rows: number, cols: number): number {
  return Math.ceil(rows / TILE) * Math.ceil(cols / TILE);
}
