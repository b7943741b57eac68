/**
 * The kernels of `Kernels` on a GPU, one call at a time: upload, run, download. That is how tests and
 * `doctor` compare them with the others; conversions keep values on the device between kernels
 * (`quantize_rect.ts`).
 */

import { FLOAT_DTYPES, type FloatDType } from "../../core/dtype.ts";
import {
  ERROR_RUN_VALUES,
  type FloatRounding,
  GPU_ROTATION_MAX,
  type Grid,
  groupCount,
  type Kernels,
  type LevelPacking,
  type LevelSearch,
  type LevelSets,
  type NonFinite,
  STATS,
  type StepRounding,
  type TableRounding,
} from "../backend.ts";
import {
  checkDecode,
  checkErrorStats,
  checkGrid,
  checkHistogram,
  checkLevels,
  checkLevelSearch,
  checkPackLevels,
  checkRotate,
  checkRoundFloats,
  checkSameLength,
  checkSearchClip,
  checkStepRounding,
  checkTableRounding,
} from "../kernel_checks.ts";
import { searchRange } from "../search_range.ts";
import { Batch, type Slot } from "./batch.ts";
import type { Gpu } from "./device.ts";
import { recordRoundFloats } from "./record_floats.ts";
import {
  type GpuRounding,
  recordQuantizeLevels,
  recordRoundToLevels,
  recordSearchClip,
  recordSearchLevels,
} from "./record_levels.ts";
import * as shaders from "./shaders.ts";

/** {@link Kernels} with promises. Views may lie in any buffer, also a shared one. */
export type AsyncKernels = {
  readonly [K in Exclude<keyof Kernels, "name">]: (
    ...args: Parameters<Kernels[K]>
  ) => Promise<ReturnType<Kernels[K]>>;
};

/** Values that one workgroup of most kernels takes. */
const WORKGROUP = 256;

/** Numbers of a run in the output of `error_stats.wgsl`, and values of a run. */
export const ERROR_RUN = Object.freeze({ slots: 8, values: ERROR_RUN_VALUES });

/** Records `decode`. `result` f32 `[count]`, `source` the bytes of `count` elements of `dtype`. */
export function recordDecode(
  batch: Batch,
  result: Slot,
  source: Slot,
  { count, dtype }: { readonly count: number; readonly dtype: FloatDType },
): void {
  const params = { count, dtype: FLOAT_DTYPES.indexOf(dtype) };
  batch.dispatch(shaders.decode, [result, source], params, Math.ceil(count / WORKGROUP));
}

/** Records `countNonFinite`. `found` u32 `[2]` begins as 0 and 0xffffffff. */
function recordCountNonFinite(batch: Batch, found: Slot, x: Slot, count: number): void {
  batch.dispatch(shaders.countNonFinite, [found, x], { count }, Math.ceil(count / WORKGROUP));
}

/** Records `absmax`. */
export function recordAbsmax(batch: Batch, result: Slot, x: Slot, grid: Grid): void {
  batch.dispatch(shaders.absmax, [result, x], gridParams(grid), groupCount(grid));
}

/** Records `scaleFromAbsmax`, in place; also for another largest code than that of INT8. */
export function recordScaleFromAbsmax(
  batch: Batch,
  scales: Slot,
  count: number,
  most = 127,
): void {
  batch.dispatch(shaders.scaleFromAbsmax, [scales], { count, most }, Math.ceil(count / 64));
}

/** Records `searchScale`, in place. */
export function recordSearchScale(batch: Batch, scales: Slot, x: Slot, grid: Grid): void {
  const range = searchRange(grid.groupRows * grid.groupCols);
  const params = { ...gridParams(grid), ...range, zero: 0 };
  batch.dispatch(shaders.searchScale, [scales, x], params, groupCount(grid));
}

/** Records `quantize`. `codes` i8, four in a word. */
export function recordQuantize(
  batch: Batch,
  codes: Slot,
  { x, scales, grid }: { readonly x: Slot; readonly scales: Slot; readonly grid: Grid },
): void {
  const params = elementParams(grid);
  const workgroups = Math.ceil(params.count / (4 * WORKGROUP));
  batch.dispatch(shaders.quantize, [codes, x, scales], params, workgroups);
}

/** Records `dequantize`. */
function recordDequantize(
  batch: Batch,
  result: Slot,
  { codes, scales, grid }: { readonly codes: Slot; readonly scales: Slot; readonly grid: Grid },
): void {
  const params = elementParams(grid);
  const workgroups = Math.ceil(params.count / WORKGROUP);
  batch.dispatch(shaders.dequantize, [result, codes, scales], params, workgroups);
}

/** Records `rotate` of `count` values, in place. */
export function recordRotate(batch: Batch, x: Slot, count: number, groupSize: number): void {
  if (groupSize === 1) return;
  if (groupSize <= GPU_ROTATION_MAX) {
    const workgroups = Math.ceil(count / GPU_ROTATION_MAX);
    batch.dispatch(shaders.rotateGroup, [x], { count, groupSize, zero: 0 }, workgroups);
    return;
  }
  const quads = count / 4;
  for (let stride = groupSize / 4; stride >= 1; stride /= 4) {
    batch.dispatch(shaders.rotate, [x], { quads, stride, zero: 0 }, Math.ceil(quads / WORKGROUP));
  }
}

/** Records `errorStats`. `sums` f32, {@link ERROR_RUN}.slots per run: see {@link addErrorRuns}. */
export function recordErrorStats(
  batch: Batch,
  sums: Slot,
  { x, xhat, count }: { readonly x: Slot; readonly xhat: Slot; readonly count: number },
): void {
  const runs = Math.ceil(count / ERROR_RUN.values);
  batch.dispatch(shaders.errorStats, [sums, x, xhat], { count }, runs);
}

/** Bytes of the sums of {@link recordErrorStats}. */
export function errorSumBytes(count: number): number {
  return 4 * ERROR_RUN.slots * Math.ceil(count / ERROR_RUN.values);
}

/** Adds what `error_stats.wgsl` found in runs of a total of `count` values to `stats` (see STATS). */
function addErrorRuns(stats: Float64Array, sums: Float32Array, count: number): void {
  const add = (slot: number, value: number): void => {
    stats[slot] = stats[slot]! + value;
  };
  for (let at = 0; at < sums.length; at += ERROR_RUN.slots) {
    // The units are exponents: those of squares are twice as large.
    const unit = 4 ** sums[at + 5]!, errorUnit = 4 ** sums[at + 6]!;
    add(STATS.squaredError, sums[at]! * errorUnit);
    add(STATS.squaredSignal, sums[at + 1]! * unit);
    add(STATS.squaredDequantized, sums[at + 2]! * unit);
    add(STATS.dot, sums[at + 3]! * unit);
    stats[STATS.maxAbsError] = Math.max(stats[STATS.maxAbsError]!, sums[at + 4]!);
  }
  add(STATS.count, count);
}

function gridParams(grid: Grid) {
  const { cols, groupRows, groupCols } = grid;
  return { cols, groupRows, groupCols, groups: groupCount(grid) };
}

function elementParams({ rows, cols, groupRows, groupCols }: Grid) {
  return { count: rows * cols, cols, groupRows, groupCols };
}

/** The kernels on `gpu`. */
export class WebGpuKernels implements AsyncKernels {
  readonly name = "webgpu";
  readonly #gpu: Gpu;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  async decode(out: Float32Array, source: Uint8Array, dtype: FloatDType): Promise<void> {
    checkDecode(out, source, dtype);
    const batch = new Batch("decode");
    const result = batch.scratch("out", out.byteLength);
    recordDecode(batch, result, batch.input("source", source), { count: out.length, dtype });
    await this.#finish(batch, result, out);
  }

  async countNonFinite(x: Float32Array): Promise<NonFinite> {
    const batch = new Batch("countNonFinite");
    const found = batch.words("found", [0, 0xffffffff]);
    recordCountNonFinite(batch, found, batch.input("x", x), x.length);
    const words = new Uint32Array(2);
    await this.#finish(batch, found, words);
    return nonFiniteOf(words);
  }

  async absmax(out: Float32Array, x: Float32Array, grid: Grid): Promise<void> {
    checkGrid("absmax", grid, { x }, { out });
    const batch = new Batch("absmax");
    const result = batch.scratch("out", out.byteLength);
    recordAbsmax(batch, result, batch.input("x", x), grid);
    await this.#finish(batch, result, out);
  }

  async scaleFromAbsmax(scales: Float32Array, absmax: Float32Array): Promise<void> {
    checkSameLength("scaleFromAbsmax", scales, absmax);
    const batch = new Batch("scaleFromAbsmax");
    const result = batch.input("absmax", absmax);
    recordScaleFromAbsmax(batch, result, absmax.length);
    await this.#finish(batch, result, scales);
  }

  async quantize(
    codes: Int8Array,
    x: Float32Array,
    scales: Float32Array,
    grid: Grid,
  ): Promise<void> {
    checkGrid("quantize", grid, { codes, x }, { scales });
    const batch = new Batch("quantize");
    const result = batch.scratch("codes", codes.byteLength);
    const inputs = { x: batch.input("x", x), scales: batch.input("scales", scales), grid };
    recordQuantize(batch, result, inputs);
    await this.#finish(batch, result, codes);
  }

  async quantizeLevels(
    codes: Int8Array,
    x: Float32Array,
    scales: Float32Array,
    grid: Grid,
    sets: LevelSets & { readonly choices: Uint8Array },
  ): Promise<void> {
    checkGrid("quantizeLevels", grid, { codes, x }, { scales });
    checkLevels("quantizeLevels", grid, sets);
    const batch = new Batch("quantizeLevels");
    const result = batch.scratch("codes", codes.byteLength);
    recordQuantizeLevels(batch, result, {
      x: batch.input("x", x),
      scales: batch.input("scales", scales),
      choices: batch.input("choices", sets.choices),
      nearest: batch.input("nearest", sets.nearest),
      groupCols: sets.groupCols,
      grid,
    });
    await this.#finish(batch, result, codes);
  }

  async searchLevels(
    choices: Uint8Array,
    x: Float32Array,
    scales: Float32Array,
    grid: Grid,
    search: LevelSearch,
  ): Promise<void> {
    checkGrid("searchLevels", grid, { x }, { scales });
    checkLevelSearch("searchLevels", grid, { ...search, choices });
    const batch = new Batch("searchLevels");
    const result = batch.scratch("choices", choices.byteLength);
    recordSearchLevels(batch, result, {
      x: batch.input("x", x),
      scales: batch.input("scales", scales),
      nearest: batch.input("nearest", search.nearest),
      first: batch.input("first", search.first),
      groupCols: search.groupCols,
      candidates: search.candidates,
      grid,
    });
    await this.#finish(batch, result, choices);
  }

  roundToTable(
    codes: Int8Array,
    choices: Uint8Array,
    x: Float32Array,
    scales: Float32Array,
    grid: Grid,
    rounding: TableRounding,
  ): Promise<void> {
    checkGrid("roundToTable", grid, { codes, x }, { scales });
    checkTableRounding(grid, choices, rounding);
    return this.#roundToLevels({ codes, choices, x, scales }, grid, { ...rounding, kind: "table" });
  }

  roundToSteps(
    codes: Int8Array,
    choices: Uint8Array,
    x: Float32Array,
    scales: Float32Array,
    grid: Grid,
    rounding: StepRounding,
  ): Promise<void> {
    checkGrid("roundToSteps", grid, { codes, x }, { scales });
    checkStepRounding(grid, choices, rounding);
    return this.#roundToLevels({ codes, choices, x, scales }, grid, { ...rounding, kind: "steps" });
  }

  async roundFloats(
    codes: Uint8Array,
    groupScales: Uint8Array,
    values: Float32Array,
    x: Float32Array,
    rounding: FloatRounding,
  ): Promise<void> {
    checkRoundFloats(codes, groupScales, { values, x }, rounding);
    const batch = new Batch("roundFloats"), result = batch.input("x", x);
    const found = {
      codes: batch.scratch("codes", codes.byteLength),
      groupScales: batch.scratch("group scales", groupScales.byteLength),
    };
    recordRoundFloats(batch, found, { x: result, count: x.length, rounding });
    batch.output(found.codes, codes);
    batch.output(found.groupScales, groupScales);
    await this.#finish(batch, result, values);
  }

  async searchClip(
    scales: Float32Array,
    x: Float32Array,
    shares: Float32Array,
    cols: number,
  ): Promise<void> {
    checkSearchClip(scales, x, cols);
    const batch = new Batch("searchClip"), result = batch.input("scales", scales);
    recordSearchClip(batch, result, { x: batch.input("x", x), rows: scales.length, cols, shares });
    await this.#finish(batch, result, scales);
  }

  async packLevels(packed: Uint8Array, levels: Int8Array, packing: LevelPacking): Promise<void> {
    checkPackLevels(packed, levels, packing);
    const batch = new Batch("packLevels"), words = packed.length / 4;
    const result = batch.scratch("packed", packed.byteLength);
    const slots = [
      result,
      batch.input("levels", levels),
      batch.input("choices", packing.choices),
      batch.input("codes", packing.codes),
    ];
    const { bits, cols, groupCols: setCols } = packing;
    const params = { words, cols, setCols, bits };
    batch.dispatch(shaders.packLevels, slots, params, Math.ceil(words / WORKGROUP));
    await this.#finish(batch, result, packed);
  }

  async dequantize(
    out: Float32Array,
    codes: Int8Array,
    scales: Float32Array,
    grid: Grid,
  ): Promise<void> {
    checkGrid("dequantize", grid, { out, codes }, { scales });
    const batch = new Batch("dequantize");
    const result = batch.scratch("out", out.byteLength);
    const inputs = { codes: batch.input("codes", codes), scales: batch.input("scales", scales) };
    recordDequantize(batch, result, { ...inputs, grid });
    await this.#finish(batch, result, out);
  }

  async searchScale(scales: Float32Array, x: Float32Array, grid: Grid): Promise<void> {
    checkGrid("searchScale", grid, { x }, { scales });
    const batch = new Batch("searchScale");
    const result = batch.input("scales", scales);
    recordSearchScale(batch, result, batch.input("x", x), grid);
    await this.#finish(batch, result, scales);
  }

  async rotate(x: Float32Array, groupSize: number): Promise<void> {
    checkRotate(x, groupSize);
    const batch = new Batch("rotate");
    const values = batch.input("x", x);
    recordRotate(batch, values, x.length, groupSize);
    await this.#finish(batch, values, x);
  }

  async histogram(counts: Uint32Array, x: Float32Array, binsPerUnit: number): Promise<void> {
    checkHistogram(counts);
    const batch = new Batch("histogram");
    const result = batch.input("counts", counts);
    const params = { count: x.length, bins: counts.length, binsPerUnit };
    const workgroups = Math.ceil(x.length / WORKGROUP);
    batch.dispatch(shaders.histogram, [result, batch.input("x", x)], params, workgroups);
    await this.#finish(batch, result, counts);
  }

  async castF16(out: Uint16Array, x: Float32Array): Promise<number> {
    checkSameLength("castF16", out, x);
    const batch = new Batch("castF16");
    const result = batch.scratch("out", out.byteLength);
    const first = batch.words("first", [0xffffffff]);
    const workgroups = Math.ceil(x.length / (2 * WORKGROUP));
    const slots = [result, first, batch.input("x", x)];
    batch.dispatch(shaders.castF16, slots, { count: x.length }, workgroups);
    const found = new Uint32Array(1);
    batch.output(first, found);
    await this.#finish(batch, result, out);
    return found[0] === 0xffffffff ? -1 : found[0]!;
  }

  async errorStats(stats: Float64Array, x: Float32Array, xhat: Float32Array): Promise<void> {
    checkErrorStats(stats, x, xhat);
    const batch = new Batch("errorStats");
    const count = x.length;
    const sums = new Float32Array(errorSumBytes(count) / 4);
    const result = batch.scratch("sums", sums.byteLength);
    const inputs = { x: batch.input("x", x), xhat: batch.input("xhat", xhat), count };
    recordErrorStats(batch, result, inputs);
    await this.#finish(batch, result, sums);
    addErrorRuns(stats, sums, count);
  }

  async #roundToLevels(
    { codes, choices, x, scales }: {
      readonly codes: Int8Array;
      readonly choices: Uint8Array;
      readonly x: Float32Array;
      readonly scales: Float32Array;
    },
    grid: Grid,
    rounding: GpuRounding,
  ): Promise<void> {
    const batch = new Batch(`round to ${rounding.kind}`);
    const found = {
      codes: batch.scratch("codes", codes.byteLength),
      choices: batch.scratch("choices", choices.byteLength),
    };
    const given = { x: batch.input("x", x), scales: batch.input("scales", scales) };
    recordRoundToLevels(batch, found, { ...given, grid, rounding });
    batch.output(found.choices, choices);
    await this.#finish(batch, found.codes, codes);
  }

  async #finish(batch: Batch, slot: Slot, into: ArrayBufferView): Promise<void> {
    batch.output(slot, into);
    await batch.run(this.#gpu);
  }
}

/** Result of `count_non_finite.wgsl`. */
function nonFiniteOf([count, first]: Uint32Array): NonFinite {
  return { count: count!, first: count === 0 ? -1 : first! };
}
