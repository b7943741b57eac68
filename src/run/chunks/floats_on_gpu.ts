/** Rows that are rounded to floats of few bits on the GPU, if the run has one and they fit. */

import type { FloatRounding } from "../../backend/backend.ts";
import { byCode, E2M1_LEVELS, E4M3_LEVELS, E8M0_LEVELS } from "../../formats/packed_codes.ts";
import type { Rect } from "../chunk_grid.ts";
import { floatsCheck } from "../checks/floats_check.ts";
import { packArrays, placeOf } from "../gpu_requests.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { ChunkContext } from "./chunk_context.ts";
import { storedRect, storedRows } from "./quantize_on_gpu.ts";

/** Values of a group. */
const E4M3_GROUP = 32, E2M1_GROUP = 16;

const { fround } = Math;

/**
 * Rounds `rect`, whole rows, whose stored bytes `raw` holds, to `codes` and `groupScales`, and checks some of it; see
 * `quantizeOnGpu`. False: nothing was done, the CPU has to.
 */
export function floatsOnGpu(
  context: ChunkContext,
  task: QuantizeTask,
  { rect, raw, codes, groupScales, rounding }: {
    readonly rect: Rect;
    readonly raw: Uint8Array;
    readonly codes: Uint8Array;
    readonly groupScales: Uint8Array;
    readonly rounding: FloatRounding;
  },
): boolean {
  const { gpu, scratch } = context, { rows, cols } = rect, { source, onGpu } = task;
  if (!gpu || onGpu === undefined || rows * cols > onGpu.maxElements) return false;
  const mark = scratch.mark();
  const sent = storedRect(context, source, raw, rect), { stored, dtype, changes } = sent;
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
  const given = storedRows(task, rect, sent);
  const isDone = gpu.run(
    request,
    floatsCheck({ ...given, rows, cols, rounding, codes, groupScales }),
  );
  scratch.release(mark);
  return isDone;
}

/** The two values of a byte of E2M1, by byte. */
const FIRST_OF_PAIR = byCode(256, (pair) => E2M1_LEVELS[pair >> 4]!);
const SECOND_OF_PAIR = byCode(256, (pair) => E2M1_LEVELS[pair & 15]!);

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
  if (kind === "e4m3") return wholeE4m3(values, codes, scale);
  return kind === "e4m3Groups"
    ? groupedE4m3(values, codes, groupScales)
    : groupedE2m1(values, codes, groupScales, scale);
}

function wholeE4m3(values: Float32Array, codes: Uint8Array, scale: number): number {
  for (let i = 0; i < values.length; i++) values[i] = E4M3_LEVELS[codes[i]!]! * scale;
  return values.length * scale * scale;
}

function groupedE4m3(values: Float32Array, codes: Uint8Array, groupScales: Uint8Array): number {
  let squares = 0, i = 0;
  for (let group = 0; group < groupScales.length; group++) {
    const by = E8M0_LEVELS[groupScales[group]!]!;
    squares += by * by;
    for (const end = i + E4M3_GROUP; i < end; i++) values[i] = E4M3_LEVELS[codes[i]!]! * by;
  }
  return E4M3_GROUP * squares;
}

function groupedE2m1(
  values: Float32Array,
  codes: Uint8Array,
  groupScales: Uint8Array,
  scale: number,
): number {
  let squares = 0, i = 0;
  for (let group = 0; group < groupScales.length; group++) {
    const by = fround(E4M3_LEVELS[groupScales[group]!]! * scale);
    squares += by * by;
    for (const end = i + E2M1_GROUP; i < end; i += 2) {
      const pair = codes[i >> 1]!;
      values[i] = FIRST_OF_PAIR[pair]! * by;
      values[i + 1] = SECOND_OF_PAIR[pair]! * by;
    }
  }
  return E2M1_GROUP * squares;
}
