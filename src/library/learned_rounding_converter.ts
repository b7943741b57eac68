/** Learned rounding of single weights, for programs. */

import {
  checkLearnedOptions,
  DEFAULT_LEARNED_OPTIONS,
  type LearnedOptimizer,
  type LearnedOptions,
} from "../quant/learned/options.ts";
import type { LearnedReport } from "../quant/learned/report.ts";
import type { ConvertOptions } from "../plan/options.ts";
import {
  type ConvertedWeight,
  convertWeight,
  type LayerInputData,
  type WeightMatrix,
} from "./convert_weight.ts";

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

/** A rounded weight. */
export interface LearnedResult extends ConvertedWeight {
  /** What learned rounding did. */
  readonly report: LearnedReport;
}

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
  readonly #options: Partial<ConvertOptions>;

  /**
   * Takes options for all weights that will be converted.
   *
   * @param options what differs from the documented defaults.
   * @throws UsageError where options contradict one another.
   */
  constructor(options: LearnedRoundingOptions = {}) {
    const {
      optimizer: method = "original",
      scaling = "block",
      blockSize = 128,
      scaleSearch = "mse",
      seed = 0,
      ...rest
    } = options;
    const learned = Object.freeze({ ...DEFAULT_LEARNED_OPTIONS, ...rest });
    checkLearnedOptions(learned);
    this.#options = { method, scaling, blockSize, scaleSearch, seed, learned };
  }

  /**
   * Returns the codes of `weight`.
   *
   * @param inputs what is known of the inputs of the layer: then the error of its outputs is lowered, instead
   * of that in the leading singular directions of the weight.
   * @throws UsageError where blocks do not divide the weight; RangeError where sizes do not fit, or values
   * are not finite; FormatError where the inputs are no statistics.
   */
  convert(weight: WeightMatrix, inputs: LayerInputData = {}): LearnedResult {
    const { learned: report, ...converted } = convertWeight(weight, inputs, this.#options);
    if (report === null) throw new TypeError("Cannot round weight: no codes were learned");
    return { ...converted, report };
  }
}
