/**
 * Checks of single operations of the linear algebra: a few elements of a product, or a few lines of a
 * transform, are computed again.
 *
 * Cost: a product of m x k by k x n takes at most m n k / {@link PRODUCTS_PER_CHECK} multiply-adds here, or those
 * of {@link LEAST_ELEMENTS}.
 */

import type { GemmMode } from "../../linalg/linalg_kernels.ts";
import { matrix, type MatrixF32 } from "../../linalg/matrix.ts";
import { firstDifference, type GpuCheck, randomOf, spread } from "./gpu_check.ts";

/** Of so many multiply-adds one is done again. */
const PRODUCTS_PER_CHECK = 8192;

/** Elements of a product that are checked at least, and at most: each takes all terms, from far apart in memory. */
const LEAST_ELEMENTS = 16, MOST_ELEMENTS = 256;

/** Of so many lines of a transform one is done again. */
const LINES_PER_CHECK = 256;

/**
 * How far f32 sums of `terms` products may be off, in parts of the sum of the magnitudes of what is added: a
 * device may add in any order, and fuse products with sums.
 */
export function sumTolerance(terms: number): number {
  return (terms + 4) * 2 ** -23;
}

/** Below this a device may flush to zero. */
export const FLUSHED = 2 ** -120;

/** Which elements of m x n are checked, for k terms each. */
function elementsOf(name: string, m: number, n: number, k: number): number[] {
  const usual = Math.min(MOST_ELEMENTS, Math.ceil(m * n / PRODUCTS_PER_CHECK));
  return k === 0 ? [] : spread(m * n, Math.max(LEAST_ELEMENTS, usual), randomOf(name));
}

/** The check of `gemmF32`: see there. */
export function gemmF32Check(c: MatrixF32, a: MatrixF32, b: MatrixF32, mode: GemmMode): GpuCheck {
  const { rows: m, cols: n } = c, k = a.cols;
  const elements = elementsOf(`gemmF32 ${m} ${n} ${k}`, m, n, k);
  const placeInC = (at: number) => Math.floor(at / n) * c.rowStride + (at % n) * c.colStride;
  let before: number[] = [];
  return {
    prepare() {
      before = elements.map((at) => mode === "set" ? 0 : c.data[placeInC(at)]!);
    },
    verify() {
      for (const [index, at] of elements.entries()) {
        const row = Math.floor(at / n) * a.rowStride, col = (at % n) * b.colStride;
        let sum = 0, size = Math.abs(before[index]!);
        for (let t = 0; t < k; t++) {
          const term = a.data[row + t * a.colStride]! * b.data[col + t * b.rowStride]!;
          sum += term;
          size += Math.abs(term);
        }
        const want = before[index]! + (mode === "subtract" ? -sum : sum);
        const got = c.data[placeInC(at)]!;
        if (!Number.isFinite(size) || size > 1e38) continue;
        // Not the other way round: it may be NaN.
        if (!(Math.abs(got - want) <= sumTolerance(k) * size + FLUSHED)) {
          return `a product of ${m} x ${k} by ${k} x ${n} wrong (at ${at} ${got} instead of ${want})`;
        }
      }
      return null;
    },
  };
}

/** The check of `gemmI8`: see there. */
export function gemmI8Check(
  out: Int32Array,
  a: Int8Array,
  b: Int8Array,
  { m, n, k }: { readonly m: number; readonly n: number; readonly k: number },
): GpuCheck {
  return {
    verify() {
      for (const at of elementsOf(`gemmI8 ${m} ${n} ${k}`, m, n, k)) {
        const row = Math.floor(at / n) * k, col = (at % n) * k;
        let sum = 0;
        for (let t = 0; t < k; t++) sum += a[row + t]! * b[col + t]!;
        if (out[at] === sum) continue;
        return `an int8 product of ${m} x ${k} by ${k} x ${n} wrong (at ${at} ${
          out[at]
        } instead of ${sum})`;
      }
      return null;
    },
  };
}

/** The check of `hadamardRows` and `hadamardColumns`, in place on `x`. */
export function hadamardCheck(x: MatrixF32, along: "rows" | "columns"): GpuCheck {
  const isRows = along === "rows";
  const lines = isRows ? x.rows : x.cols, length = isRows ? x.cols : x.rows;
  const [lineStride, step] = isRows ? [x.rowStride, x.colStride] : [x.colStride, x.rowStride];
  const wanted = Math.max(3, Math.ceil(lines / LINES_PER_CHECK));
  const chosen = spread(lines, wanted, randomOf(`${along} ${lines} ${length}`));
  const lineOf = (line: number) =>
    Float32Array.from({ length }, (_, k) => x.data[line * lineStride + k * step]!);
  let before: Float32Array[] = [];
  return {
    prepare() {
      before = chosen.map(lineOf);
    },
    verify(cpu) {
      for (const [index, line] of chosen.entries()) {
        const want = cpu.memory(4 * length + 64).f32(length);
        want.set(before[index]!);
        cpu.linalg.hadamardRows(matrix(want, 1, length));
        const wrong = firstDifference(lineOf(line), want);
        if (wrong !== null) return `a transform of ${lines} lines wrong (line ${line}: ${wrong})`;
      }
      return null;
    },
  };
}
