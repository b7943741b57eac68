/** Rows that are rounded to floats of few bits on the GPU, if the run has one and they fit. */

import { FLOAT_GROUP_COLS, type FloatRounding } from "../../backend/backend.ts";
import { f8e4m3ToF32 } from "../../core/dtype.ts";
import { E2M1_LEVELS, E4M3_LEVELS } from "../../formats/packed_codes.ts";
import type { Rect } from "../chunk_grid.ts";
import { floatsCheck } from "../checks/floats_check.ts";
import { packArrays, placeOf } from "../gpu_requests.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { ChunkContext } from "./chunk_context.ts";
import { storedRect } from "./quantize_on_gpu.ts";

/**
 * Rounds `rect`, whole rows, whose stored bytes `raw` holds, to `codes` and `groupScales`, and checks some of it; see
 * `quantizeOnGpu`. False: nothing was done, the CPU has to.
 */
export function floatsOnGpu(
  context: ChunkContext,
  { name, source, onGpu }: QuantizeTask,
  { rect, raw, codes, groupScales, rounding }: {
    readonly rect: Rect;
    readonly raw: Uint8Array;
    readonly codes: Uint8Array;
    readonly groupScales: Uint8Array;
    readonly rounding: FloatRounding;
  },
): boolean {
  const { gpu, scratch } = context, { rows, cols } = rect;
  if (!gpu || onGpu === undefined || rows * cols > onGpu.maxElements) return false;
  const mark = scratch.mark();
  const { stored, dtype, changes } = storedRect(context, source, raw, rect);
  const request = {
    op: "floats",
    raw: placeOf(stored),
    dtype,
    changes: changes.map(packArrays),
    rows,
    cols,
    rounding,
    codes: placeOf(codes),
    groupScales: placeOf(groupScales),
  } as const;
  const isFirst = onGpu.isFirst === true && rect.row === 0;
  const subject = `${JSON.stringify(name)} from row ${rect.row} on`;
  const given = { name: subject, raw: stored, dtype, changes, isFirst };
  const isDone = gpu.run(
    request,
    floatsCheck({ ...given, rows, cols, rounding, codes, groupScales }),
  );
  scratch.release(mark);
  return isDone;
}

/**
 * Fills `values` with what codes stand for, to the bits of `roundFloats`. Returns the sum of the squares of the scales
 * of all values.
 */
export function floatValues(
  values: Float32Array,
  codes: Uint8Array,
  groupScales: Uint8Array,
  { kind, scale }: FloatRounding,
): number {
  const size = FLOAT_GROUP_COLS[kind] ?? values.length;
  let squares = 0;
  for (let at = 0, group = 0; at < values.length; at += size, group++) {
    const by = kind === "e4m3" ? scale : groupScale(kind, groupScales[group]!, scale);
    squares += size * by * by;
    if (kind === "e2m1Groups") {
      for (let i = at; i < at + size; i += 2) {
        const pair = codes[i >> 1]!;
        values[i] = E2M1_LEVELS[pair >> 4]! * by;
        values[i + 1] = E2M1_LEVELS[pair & 15]! * by;
      }
    } else for (let i = at; i < at + size; i++) values[i] = E4M3_LEVELS[codes[i]!]! * by;
  }
  return squares;
}

function groupScale(kind: "e4m3Groups" | "e2m1Groups", byte: number, scale: number): number {
  return kind === "e4m3Groups" ? 2 ** (byte - 127) : Math.fround(f8e4m3ToF32(byte) * scale);
}
