/**
 * Checks rows that a GPU rounded to floats of few bits. The kernel is exact: every bit of codes and of scales of
 * groups is compared, for as many rows as of INT8. Besides, {@link floatsBound} holds every tile to what rounding can
 * leave.
 */

import { FLOAT_GROUP_COLS, type FloatRounding } from "../../backend/backend.ts";
import { type CheckKernels, firstDifference, type GpuCheck } from "./gpu_check.ts";
import { bandsOf, rowsAgain, type StoredRows } from "./stored_rows.ts";

/** The request and the answer. */
export interface FloatRows extends StoredRows {
  readonly rows: number;
  readonly cols: number;
  readonly rounding: FloatRounding;
  readonly codes: Uint8Array;
  readonly groupScales: Uint8Array;
}

/** The check of `rect`. */
export function floatsCheck(rect: FloatRows): GpuCheck {
  return {
    verify(cpu) {
      for (const row of bandsOf(rect, { rows: rect.rows, groupRows: 1 })) {
        const wrong = checkRow(cpu, rect, row);
        if (wrong !== null) return `${wrong} of ${rect.name}`;
      }
      return null;
    },
  };
}

function checkRow(cpu: CheckKernels, rect: FloatRows, row: number): string | null {
  const { cols, rounding, codes, groupScales } = rect, { kind } = rounding;
  const bytes = kind === "e2m1Groups" ? cols / 2 : cols;
  const across = cols / (FLOAT_GROUP_COLS[kind] ?? Infinity);
  const again = rowsAgain(cpu, rect, { row, rows: 1, cols }, bytes + across + 4 * cols);
  if (again === null) return null;
  const { kernels, memory, x } = again;
  const ownCodes = memory.u8(bytes), ownScales = memory.u8(across);
  kernels.roundFloats(ownCodes, ownScales, memory.f32(cols), x, rounding);
  const scale = firstDifference(groupScales.subarray(row * across, (row + 1) * across), ownScales);
  if (scale !== null) return `scales of row ${row} (${scale})`;
  const code = firstDifference(codes.subarray(row * bytes, (row + 1) * bytes), ownCodes);
  return code === null ? null : `codes of row ${row} (${code})`;
}

/**
 * Returns the largest sum of squared errors that rounding to floats can leave. An error is at most a part of its
 * value, half a step of a number with few bits, or half a step of the smallest numbers. A search takes what loses no
 * more than the scale that reaches the largest value of a group, which is twice the other one at most, of E2M1 a
 * third more. The scale of a group of E2M1 is a number of few bits itself: the smallest may be rounded to nothing.
 *
 * @param squares the sum of squares of the values. @param scaleSquares the same of the scale of each.
 */
export function floatsBound(
  { kind, scale }: FloatRounding,
  { count, squares, scaleSquares }: {
    readonly count: number;
    readonly squares: number;
    readonly scaleSquares: number;
  },
): number {
  if (kind !== "e2m1Groups") return 1.05 * (squares / 16 ** 2 + scaleSquares / 512 ** 2);
  return 1.05 * (squares / 4 ** 2 + 0.4 ** 2 * scaleSquares + count * (0.1 * scale) ** 2);
}
