/** Reads rows of calibration data. */

import type { CountedMemory } from "../../core/counted_memory.ts";
import type { Statistic, StatisticData } from "../../calibration/calibration.ts";
import { elementBytes } from "../tasks.ts";
import type { DType } from "../../core/dtype.ts";
import { matrix, type MatrixF32 } from "../../linalg/matrix.ts";
import type { ChunkContext } from "./chunk_context.ts";

/** Rows that are read at a time: a call for each of a small layer's takes as long as its product with the others. */
const ROWS_AT_A_TIME = 32;

type RowContext = Pick<ChunkContext, "scratch" | "kernels" | "read">;

/** Fills `out` (K long) with row `index` of `data`, its channels multiplied by their factors. */
export function loadInputRow(
  context: RowContext,
  { data, statistic }: { readonly data: StatisticData; readonly statistic: Statistic },
  index: number,
  out: Float32Array,
): void {
  readRows(context, data, index, matrix(out, 1, out.length));
  const { factors } = data;
  if (factors === undefined) return;
  // A row of second moments belongs to a channel itself.
  const own = statistic === "hessian" ? factors[index]! : 1;
  for (let k = 0; k < out.length; k++) out[k] = out[k]! * factors[k]! * own;
}

/** Counts what {@link loadInputRow} takes for a row of `cols` channels. */
export function planInputRow(
  memory: CountedMemory,
  source: { readonly data: StatisticData },
  cols: number,
): void {
  planInputRows(memory, source, 1, cols);
}

/**
 * Fills `out` with rows of activations from row `first` on, as {@link loadInputRow} does with each.
 *
 * @param out f32 `[rows, cols]`.
 */
export function loadInputRows(
  context: RowContext,
  { data }: { readonly data: StatisticData },
  first: number,
  out: MatrixF32,
): void {
  readRows(context, data, first, out);
  const { factors } = data, { data: values, rows, cols } = out;
  if (factors === undefined) return;
  for (let at = 0; at < rows * cols; at += cols) {
    for (let k = 0; k < cols; k++) values[at + k] = values[at + k]! * factors[k]!;
  }
}

/** Counts what {@link loadInputRows} takes for at most `rows` rows of `cols` channels. */
export function planInputRows(
  memory: CountedMemory,
  { data }: { readonly data: StatisticData },
  rows: number,
  cols: number,
): void {
  if (data.kind === "file") memory.within(() => roomForRows(memory, data.dtype, rows, cols));
}

function roomForRows(memory: Pick<CountedMemory, "u8">, dtype: DType, rows: number, cols: number) {
  return memory.u8(Math.min(ROWS_AT_A_TIME, rows) * cols * elementBytes(dtype));
}

/** Fills `out` with the rows of `data` from row `first` on, as they are stored. */
function readRows(
  context: RowContext,
  data: StatisticData,
  first: number,
  { data: out, rows, cols }: MatrixF32,
): void {
  if (data.kind === "inline") {
    out.set(data.values.subarray(first * cols, (first + rows) * cols));
    return;
  }
  const mark = context.scratch.mark(), rowBytes = cols * elementBytes(data.dtype);
  const room = roomForRows(context.scratch, data.dtype, rows, cols);
  for (let row = 0; row < rows; row += ROWS_AT_A_TIME) {
    const count = Math.min(ROWS_AT_A_TIME, rows - row);
    const raw = room.subarray(0, count * rowBytes);
    context.read(data.file, raw, data.offsetBytes + (first + row) * rowBytes);
    context.kernels.decode(out.subarray(row * cols, (row + count) * cols), raw, data.dtype);
  }
  context.scratch.release(mark);
}
