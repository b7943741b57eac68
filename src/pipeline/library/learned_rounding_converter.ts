/** Learned rounding of single weights, for programs: on WASM kernels, in memory of its own per call. */

import { type Grid, groupCount } from "../../backend/backend.ts";
import { Arena, createSharedMemory } from "../../backend/cpu/arena.ts";
import { compileLinalg } from "../../backend/cpu/linalg_module.ts";
import { WasmKernels } from "../../backend/cpu/wasm_kernels.ts";
import { LINALG_WORKSPACE_BYTES, WasmLinalg } from "../../backend/cpu/wasm_linalg.ts";
import { compileKernels } from "../../backend/cpu/wasm_module.ts";
import { UsageError } from "../../core/errors.ts";
import { randomFor } from "../../core/rng.ts";
import { soloContext } from "../../linalg/context.ts";
import { hessianFromMatrix } from "../../linalg/hessian_sources.ts";
import { findScales, findScalesBytes } from "../../quant/learned/choose_scales.ts";
import {
  outputScratchBytes,
  projectedScratchBytes,
  roundForOutputs,
  roundProjected,
  type SearchResult,
} from "../../quant/learned/learned_rounding.ts";
import {
  checkLearnedOptions,
  DEFAULT_LEARNED_OPTIONS,
  type LearnedOptimizer,
  type LearnedOptions,
} from "../../quant/learned/options.ts";
import { type LearnedReport, reportOf } from "../../quant/learned/report.ts";

/** Options of a {@link LearnedRoundingConverter}, the documented defaults where absent. */
export interface LearnedRoundingOptions extends Partial<LearnedOptions> {
  /** The optimizer; the default is that of the command line. */
  readonly optimizer?: LearnedOptimizer;
  /** Weights that share a scale. Default: `block`. */
  readonly scaling?: "tensor" | "row" | "block";
  /** Edge of a block. Default: 128. */
  readonly blockSize?: number;
  /** Scales of least squared error, or largest magnitude / 127. Default: `mse`. */
  readonly scaleSearch?: "off" | "mse";
  /** Of the random numbers. Default: 0. */
  readonly seed?: number;
}

/** A weight `[rows, cols]`, row-major, finite. */
export interface LearnedWeight {
  /** Values, row-major. */
  readonly data: Float32Array;
  /** Rows of the matrix. */
  readonly rows: number;
  /** Columns of the matrix. */
  readonly cols: number;
  /** Its random numbers come from the seed and this. Default: empty. */
  readonly name?: string;
}

/** A rounded weight. */
export interface LearnedResult {
  /** i8 `[rows, cols]`. */
  readonly codes: Int8Array;
  /** f32, one per group, row-major. */
  readonly scale: Float32Array;
  /** `[]`, `[rows, 1]` or `[rows / blockSize, cols / blockSize]`. */
  readonly scaleShape: readonly number[];
  /** code * scale, f32 `[rows, cols]`. */
  readonly dequantized: Float32Array;
  /** What learned rounding did. */
  readonly report: LearnedReport;
}

/** The first bytes of a memory belong to the kernels' constants. */
const STATICS_BYTES = 1 << 16;

/**
 * Rounds weights one by one, as `--optimizer original|adamw|radam` does.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * const data = Float32Array.from({ length: 64 * 64 }, (_, i) => Math.fround(Math.sin(i * i)));
 * const converter = new LearnedRoundingConverter({ scaling: "row", iterations: 50, minDirections: 8 });
 * const { codes, scale, report } = converter.convert({ data, rows: 64, cols: 64 });
 * assert.deepEqual([codes.length, scale.length], [4096, 64]);
 * assert(report.lossRatio! < 1);
 * ```
 */
export class LearnedRoundingConverter {
  readonly #options: LearnedOptions;
  readonly #layout: Required<
    Pick<LearnedRoundingOptions, "optimizer" | "scaling" | "blockSize" | "scaleSearch" | "seed">
  >;
  readonly #kernels = compileKernels();
  readonly #linalg = compileLinalg();

  /** @throws UsageError where options contradict one another. */
  constructor(options: LearnedRoundingOptions = {}) {
    const {
      optimizer = "original",
      scaling = "block",
      blockSize = 128,
      scaleSearch = "mse",
      seed = 0,
      ...learned
    } = options;
    this.#layout = { optimizer, scaling, blockSize, scaleSearch, seed };
    this.#options = Object.freeze({ ...DEFAULT_LEARNED_OPTIONS, ...learned });
    checkLearnedOptions(this.#options);
  }

  /**
   * Returns the codes of `weight`.
   *
   * @param options `hessian`: second moments of the inputs, `[cols, cols]`, for the error of the outputs
   * instead of that in the leading singular directions.
   * @throws UsageError where blocks do not divide the weight; RangeError where sizes do not fit, or values
   * are not finite.
   */
  convert(
    weight: LearnedWeight,
    { hessian = null }: { hessian?: Float32Array | Float64Array | null } = {},
  ): LearnedResult {
    const { data, rows, cols } = weight, { optimizer } = this.#layout;
    const grid = this.#gridOf(weight), options = this.#options;
    const bytes = this.#bytesFor(grid, hessian !== null);
    const shared = createSharedMemory(STATICS_BYTES + bytes);
    const memory = new Arena(shared, STATICS_BYTES, bytes);
    const kernels = new WasmKernels(this.#kernels, shared);
    const context = soloContext(new WasmLinalg(this.#linalg, memory), memory);
    const weights = memory.f32(data.length), codes = memory.i8(data.length);
    weights.set(data);
    const { count, first } = kernels.countNonFinite(weights);
    if (count > 0) {
      throw new RangeError(
        `Cannot round weight: ${count} values are not finite, the first at index ${first}`,
      );
    }
    const scales = memory.f32(groupCount(grid)), spare = memory.f32(groupCount(grid));
    const search = this.#layout.scaleSearch === "mse";
    let reference = null;
    if (hessian === null) {
      reference = findScales(kernels, memory, { weights, grid, scales, spare }, {
        search,
        options,
      });
    } else {
      const layer = { weights, grid, scales, spare };
      // Wider scales pay for the singular directions only.
      findScales(kernels, memory, layer, { search, options: { ...options, iterations: 0 } });
    }
    kernels.quantize(codes, weights, scales, grid);
    const scale = scales.slice();
    const problem = { optimizer, options, grid, weights, scales, codes };
    const facts = { optimizer, elements: data.length };
    let report: LearnedReport;
    if (hessian === null) {
      const random = randomFor(this.#layout.seed, weight.name ?? "");
      const held = reference === null ? problem : { ...problem, reference };
      const found = roundProjected(context, held, random);
      report = reportOf([found], { ...facts, loss: "projected", directions: found.directions });
    } else {
      const found = this.#forOutputs(context, problem, hessian, cols);
      report = reportOf([found], { ...facts, loss: "output", directions: null });
    }
    spare.set(scale);
    kernels.dequantize(weights, codes, spare, grid); // in the place of the errors
    return {
      codes: codes.slice(),
      scale,
      scaleShape: scaleShapeOf(this.#layout, rows, cols),
      dequantized: weights.slice(),
      report,
    };
  }

  #forOutputs(
    context: Parameters<typeof roundForOutputs>[0],
    problem: Parameters<typeof roundForOutputs>[1],
    hessian: Float32Array | Float64Array,
    cols: number,
  ): SearchResult {
    // Checked and made symmetric in f64, on a copy of its own.
    const { values } = hessianFromMatrix(Float64Array.from(hessian), cols);
    const own = context.memory.f32(values.length);
    own.set(values);
    return roundForOutputs(context, problem, { size: cols, blockSize: cols, values: own });
  }

  #gridOf({ data, rows, cols }: LearnedWeight): Grid {
    if (data.length !== rows * cols || data.length === 0) {
      throw new RangeError(
        `Cannot round weight: ${data.length} values are not [${rows}, ${cols}] of one or more`,
      );
    }
    const { scaling, blockSize: size } = this.#layout;
    if (scaling === "row") return { rows, cols, groupRows: 1, groupCols: cols };
    if (scaling === "tensor") return { rows, cols, groupRows: rows, groupCols: cols };
    if (!Number.isInteger(size) || size < 1 || rows % size !== 0 || cols % size !== 0) {
      throw new UsageError(
        `Cannot round weight: [${rows}, ${cols}] is not divisible into ${size} x ${size} blocks; ` +
          "take another blockSize, or row scaling",
      );
    }
    return { rows, cols, groupRows: size, groupCols: size };
  }

  #bytesFor(grid: Grid, hasHessian: boolean): number {
    const { rows, cols } = grid, { optimizer } = this.#layout;
    const rounding = hasHessian
      ? 4 * cols * cols + outputScratchBytes(rows, cols, optimizer)
      : projectedScratchBytes(rows, cols, { optimizer, options: this.#options });
    return 5 * rows * cols + 8 * groupCount(grid) + Math.max(findScalesBytes(grid), rounding) +
      LINALG_WORKSPACE_BYTES + (1 << 17);
  }
}

function scaleShapeOf(
  { scaling, blockSize }: { scaling: string; blockSize: number },
  rows: number,
  cols: number,
): number[] {
  if (scaling === "tensor") return [];
  return scaling === "row" ? [rows, 1] : [rows / blockSize, cols / blockSize];
}
