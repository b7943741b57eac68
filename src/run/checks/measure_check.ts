/**
 * Checks errors of outputs that a GPU measures. Sums come back per run of outputs; one run of some requests is
 * computed again, and three of the first request of a kind.
 *
 * Cost: 3 {@link ERROR_RUN_VALUES} K multiply-adds, in one of {@link REQUESTS_PER_CHECK} requests.
 */

import { ERROR_RUN_VALUES, type Grid } from "../../backend/backend.ts";
import type { OutputRows } from "../../backend/output_rows.ts";
import { FLUSHED, sumTolerance } from "./product_check.ts";
import { type CheckKernels, type GpuCheck, randomOf, spread } from "./gpu_check.ts";

/** Of so many requests one is checked. */
const REQUESTS_PER_CHECK = 64;

/** Numbers per run: squares of outputs, of their errors, of those with int8 inputs. */
export const RUN_SUMS = 3;

/** The request and the answer. Sums are f64 `[runs, RUN_SUMS]`. */
export interface NamedRows extends OutputRows {
  /** The layer. */
  readonly name: string;
}

/** Returns how many runs of outputs there are of n rows of weights and m of inputs. */
export function runCount(m: number, n: number): number {
  return Math.ceil(m * n / ERROR_RUN_VALUES);
}

/** Returns the check of `rows`, before they go up; null: they are none of those that are checked. */
export function measureCheck(rows: NamedRows, isFirst: boolean): GpuCheck | null {
  const random = randomOf(rows.name);
  if (!isFirst && random() % REQUESTS_PER_CHECK !== 0) return null;
  const runs = rows.sums.length / RUN_SUMS;
  const chosen = spread(runs, isFirst ? 3 : 1, random);
  return {
    verify(cpu) {
      for (const run of chosen) {
        const wrong = checkRun(cpu, rows, run);
        if (wrong !== null) return wrong;
      }
      return null;
    },
  };
}

function checkRun(cpu: CheckKernels, rows: NamedRows, run: number): string | null {
  const { weights, difference, inputs, cols: k, stored, sums, name } = rows;
  const n = weights.length / k, m = inputs.length / k;
  const start = run * ERROR_RUN_VALUES, end = Math.min(start + ERROR_RUN_VALUES, m * n);
  // The wanted value, and the error that f32 may have.
  const wants = [0, 0, 0], slack = [0, 0, 0];
  const add = (index: number, value: number, offBy: number) => {
    wants[index]! += value * value;
    slack[index]! += offBy * (2 * Math.abs(value) + offBy);
  };
  let input: QuantizedRow | null = null;
  for (let at = start; at < end; at++) {
    const i = Math.floor(at / n), j = at % n;
    let y = 0, e = 0, ySize = 0, eSize = 0;
    for (let t = 0; t < k; t++) {
      const x = inputs[i * k + t]!, a = x * weights[j * k + t]!, b = x * difference[j * k + t]!;
      y += a;
      e += b;
      ySize += Math.abs(a);
      eSize += Math.abs(b);
    }
    const yOff = sumTolerance(k) * ySize;
    add(0, y, yOff);
    add(1, e, sumTolerance(k) * eSize);
    if (stored === null) continue;
    if (input?.row !== i) input = quantizedRow(cpu, inputs.subarray(i * k, (i + 1) * k), i, stored);
    const int8 = int8Output(input, stored, j);
    add(2, y - int8, yOff + sumTolerance(4) * (Math.abs(y) + Math.abs(int8)));
  }
  for (const [index, want] of wants.entries()) {
    const got = sums[run * RUN_SUMS + index]!;
    const allowed = 1e-4 * want + slack[index]! + FLUSHED;
    if (!Number.isFinite(want) || want > 1e38) continue;
    if (!(Math.abs(got - want) <= allowed)) {
      return `errors of outputs of ${name} wrong (${got} instead of ${want})`;
    }
  }
  return null;
}

/** A row of inputs as the runtime quantizes it. */
interface QuantizedRow {
  readonly row: number;
  readonly codes: Int8Array;
  readonly scale: number;
}

function quantizedRow(
  cpu: CheckKernels,
  values: Float32Array,
  row: number,
  { convrotGroupSize }: NonNullable<NamedRows["stored"]>,
): QuantizedRow {
  const k = values.length, scratch = cpu.memory(5 * k + 1024), { kernels } = cpu;
  const x = scratch.f32(k), codes = scratch.i8(k), scales = scratch.f32(1);
  const grid: Grid = { rows: 1, cols: k, groupRows: 1, groupCols: k };
  x.set(values);
  if (convrotGroupSize !== null) kernels.rotate(x, convrotGroupSize);
  kernels.absmax(scales, x, grid);
  kernels.scaleFromAbsmax(scales, scales);
  kernels.quantize(codes, x, scales, grid);
  return { row, codes: codes.slice(), scale: scales[0]! };
}

function int8Output(
  input: QuantizedRow,
  { codes, scales, grid }: NonNullable<NamedRows["stored"]>,
  j: number,
): number {
  const { cols: k, groupRows, groupCols } = grid, across = k / groupCols;
  let out = 0;
  for (let group = 0; group < across; group++) {
    let sum = 0;
    for (let t = group * groupCols; t < (group + 1) * groupCols; t++) {
      sum += input.codes[t]! * codes[j * k + t]!;
    }
    out += sum * input.scale * scales[Math.floor(j / groupRows) * across + group]!;
  }
  return out;
}
