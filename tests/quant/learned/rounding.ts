/** Rounds layers with the learned methods, for tests: on WASM, scales and codes as the converter has them. */

import { Arena, createSharedMemory } from "../../../src/backend/cpu/arena.ts";
import { compileLinalg } from "../../../src/backend/cpu/linalg_module.ts";
import { WasmKernels } from "../../../src/backend/cpu/wasm_kernels.ts";
import { WasmLinalg } from "../../../src/backend/cpu/wasm_linalg.ts";
import { compileKernels } from "../../../src/backend/cpu/wasm_module.ts";
import { type Grid, groupCount } from "../../../src/backend/backend.ts";
import { randomFor } from "../../../src/core/rng.ts";
import { soloContext } from "../../../src/linalg/context.ts";
import { chooseScales } from "../../../src/quant/learned/choose_scales.ts";
import {
  type MomentBlocks,
  roundForOutputs,
  roundProjected,
  type SearchResult,
} from "../../../src/quant/learned/learned_rounding.ts";
import {
  DEFAULT_LEARNED_OPTIONS,
  type LearnedOptimizer,
  type LearnedOptions,
} from "../../../src/quant/learned/options.ts";

const STATICS = 1 << 16, BYTES = 96 << 20;
const shared = createSharedMemory(BYTES);
export const arena = new Arena(shared, STATICS, BYTES - STATICS);
export const kernels = new WasmKernels(compileKernels(), shared);
export const context = soloContext(new WasmLinalg(compileLinalg(), arena), arena);

/** A layer before and after. */
export interface Rounded {
  readonly nearest: Int8Array;
  readonly codes: Int8Array;
  readonly scales: Float32Array;
  readonly result: SearchResult;
  /** Squared error of rounding to nearest with scales of least squared error. */
  readonly reference: number;
}

/** Rounds `weights`; with `moments` for outputs, otherwise by singular directions. */
export function round(
  weights: Float32Array,
  grid: Grid,
  { options = {}, optimizer = "original", moments = null, seed = 0 }: {
    options?: Partial<LearnedOptions>;
    optimizer?: LearnedOptimizer;
    moments?: MomentBlocks | null;
    seed?: number;
  } = {},
): Rounded {
  const mark = arena.mark();
  try {
    const x = arena.f32(weights.length);
    x.set(weights);
    const scales = arena.f32(groupCount(grid)), widest = arena.f32(groupCount(grid));
    kernels.absmax(widest, x, grid);
    kernels.scaleFromAbsmax(widest, widest);
    scales.set(widest);
    kernels.searchScale(scales, x, grid);
    const all = { ...DEFAULT_LEARNED_OPTIONS, ...options };
    const choice = {
      weights: x,
      grid,
      scales,
      widest,
      limitDb: moments === null ? all.errorLimitDb : 0,
    };
    const reference = chooseScales(kernels, arena, choice);
    const codes = arena.i8(x.length);
    kernels.quantize(codes, x, scales, grid);
    const nearest = codes.slice(), kept = scales.slice();
    const problem = { optimizer, options: all, grid, weights: x, scales, codes, reference };
    let result: SearchResult;
    if (moments === null) result = roundProjected(context, problem, randomFor(seed, "layer"));
    else {
      const values = arena.f32(moments.values.length);
      values.set(moments.values);
      result = roundForOutputs(context, problem, { ...moments, values });
    }
    return { nearest, codes: codes.slice(), scales: kept, result, reference };
  } finally {
    arena.release(mark);
  }
}

/** code * scale - weight, in f64. */
export function errorsOf(
  weights: Float32Array,
  codes: Int8Array,
  scales: Float32Array,
  { cols, groupRows, groupCols }: Grid,
): Float64Array {
  return Float64Array.from(weights, (w, at) => {
    const group = Math.floor(Math.floor(at / cols) / groupRows) * (cols / groupCols) +
      Math.floor((at % cols) / groupCols);
    return codes[at]! * scales[group]! - w;
  });
}

/** Sum of squares. */
export function energy(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * values[i]!;
  return sum;
}
