/**
 * Checks rows that a GPU rounded with error compensation. Codes of a device differ now and then, if a value
 * lies next to the middle between two, and what follows differs then, too. So codes are not compared but
 * held to the rule they obey: every code is the nearest one to its weight and what the errors of the codes
 * after it feed back, up to the rounding of those sums:
 *
 *     |w[j] + sum over k > j of e[k] L̃[k, j] - code[j] s[j]| <= s[j] / 2 + tolerance,   e = w - code s
 *
 * Errors follow from codes exactly, so that one row takes K² / 2 multiply-adds in f64, and nothing of the device.
 * That is some milliseconds; factoring the Hessian of the layer takes hundreds of times as long. One row
 * of every layer is checked, more of the first layer of a kind.
 */

import type { GptqFactor } from "../../quant/gptq.ts";
import type { GptqRows } from "../../quant/rows_in_order.ts";
import type { GpuStorage } from "../gpu_requests.ts";
import { FLUSHED, sumTolerance } from "./product_check.ts";
import { type GpuCheck, randomOf, spread } from "./gpu_check.ts";

/** Rows that are checked of the first layer of a kind. */
const FIRST_ROWS = 4;

/** Parts by which a number, and a product of two, is off as the device stores them. */
const STORED_ERROR: Readonly<Record<GpuStorage, number>> = Object.freeze({
  f32: 0,
  bf16: 2.1 * 2 ** -9,
  f16: 2.1 * 2 ** -11,
});

/** f16 has no finer step than this near zero. */
const F16_STEP = 2 ** -24;

/** Facts of a layer whose rows are checked. */
export interface CheckedLayer {
  readonly name: string;
  readonly factor: GptqFactor;
  readonly storage: GpuStorage;
  readonly isFirst: boolean;
}

/**
 * Returns the check of `rows`, which are about to be rounded; null: they are not the ones of their layer that
 * are checked.
 *
 * @param layerRows rows of the whole layer.
 */
export function ldlqCheck(
  { name, factor, storage, isFirst }: CheckedLayer,
  rows: GptqRows & { readonly errors: boolean; readonly layerRow: number },
  layerRows: number,
): GpuCheck | null {
  const { size } = factor, count = rows.weights.length / size;
  const wanted = isFirst ? FIRST_ROWS : 1;
  const place = rows.layerRow;
  const chosen = spread(layerRows, wanted, randomOf(name))
    .map((row) => row - place)
    .filter((row) => row >= 0 && row < count);
  if (chosen.length === 0) return null;
  let before: Float32Array[] = [];
  return {
    prepare() {
      before = chosen.map((row) => rows.weights.slice(row * size, (row + 1) * size));
    },
    verify() {
      for (const [index, row] of chosen.entries()) {
        const wrong = checkRow(factor, storage, rows, { row, weights: before[index]! });
        if (wrong !== null) return `${wrong} in row ${place + row} of ${JSON.stringify(name)}`;
      }
      return null;
    },
  };
}

function checkRow(
  { size, blockSize, values, order }: GptqFactor,
  storage: GpuStorage,
  { weights: after, codes, scales, grid, firstRow, errors }: GptqRows & { errors: boolean },
  { row, weights }: { readonly row: number; readonly weights: Float32Array },
): string | null {
  const at = row * size, across = grid.cols / grid.groupCols;
  const scaleRow = Math.floor((firstRow + row) / grid.groupRows) * across;
  const columnOf = (k: number) => order === null ? k : order[k]!;
  const scaleOf = (column: number) => scales[scaleRow + Math.floor(column / grid.groupCols)]!;
  const error = new Float64Array(size);
  for (let k = 0; k < size; k++) {
    const column = columnOf(k);
    const taken = Math.fround(codes[at + column]! * scaleOf(column));
    error[k] = Math.fround(weights[column]! - taken);
    if (errors && after[at + column] !== error[k]) {
      return `an error of ${after[at + column]} instead of ${error[k]} of column ${column}`;
    }
  }
  const fed = new Float64Array(size),
    sizes = new Float64Array(size),
    steps = new Float64Array(size);
  for (let first = 0; first < size; first += blockSize) {
    for (let k = blockSize - 1; k > 0; k--) {
      const from = (first + k) * blockSize, e = error[first + k]!, magnitude = Math.abs(e);
      for (let j = 0; j < k; j++) {
        const l = values[from + j]!;
        fed[first + j] = fed[first + j]! + e * l;
        sizes[first + j] = sizes[first + j]! + magnitude * Math.abs(l);
      }
      steps[first + k - 1] = magnitude;
    }
    // Values that f16 rounds to zero: the same for every term that a column gets.
    for (let j = blockSize - 2; j >= 0; j--) {
      steps[first + j] = steps[first + j]! + steps[first + j + 1]!;
    }
  }
  const relative = sumTolerance(size) + STORED_ERROR[storage];
  for (let k = size - 1; k >= 0; k--) {
    const column = columnOf(k), s = scaleOf(column), code = codes[at + column]!;
    const j = k % blockSize, diagonal = values[k * blockSize + j]!;
    const wanted = weights[column]! + fed[k]! / diagonal;
    const size = sizes[k]! / diagonal + Math.abs(weights[column]!);
    const steps16 = storage === "f16" ? F16_STEP * (steps[k]! + blockSize * s) : 0;
    const allowed = s / 2 + relative * size + steps16 + s * 1e-5 + FLUSHED;
    const off = wanted - code * s;
    if (
      code === 127 ? off >= -allowed : code === -127 ? off <= allowed : Math.abs(off) <= allowed
    ) {
      continue;
    }
    return `code ${code} for ${wanted / s} in column ${column}`;
  }
  return null;
}
