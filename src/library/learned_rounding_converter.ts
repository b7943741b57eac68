/** Learned rounding of single weights, for programs. */

import * as v from "valibot";
import { LEARNED_OPTIMIZERS, type LearnedOptimizer } from "../quant/learned/options.ts";
import type { LearnedReport } from "../quant/learned/report.ts";
import { checkOptions, LEARNED_ENTRIES, oneOf, OPTION_ENTRIES } from "../plan/option_schema.ts";
import { LIBRARY_NAMES, type OptionNames } from "../plan/option_names.ts";
import { type ConvertOptions, CTQ_DEFAULTS } from "../plan/options.ts";
import { type GivenLearnedOptions, resolveOptions } from "../plan/resolve_options.ts";
import type { Tensor } from "../core/tensor.ts";
import {
  type ConvertedWeight,
  convertWeight,
  type LayerInputData,
  type WeightMatrix,
} from "./convert_weight.ts";

/** Options of a {@link LearnedRoundingConverter}, the documented defaults if absent. */
export interface LearnedRoundingOptions extends GivenLearnedOptions {
  /** The optimizer; the default is that of the command line. */
  readonly optimizer?: LearnedOptimizer;
  /** Weights that share a scale. Default: `block`. */
  readonly scaling?: "tensor" | "row" | "block";
  /** Edge of a block. Default: that of a conversion. */
  readonly blockSize?: number;
  /** Scales of least squared error, or largest magnitude / 127. Default: `mse`. */
  readonly scaleSearch?: "off" | "mse";
  /** Of the random numbers. Default: 0. */
  readonly seed?: number;
}

const { scaling, blockSize, scaleSearch, seed } = OPTION_ENTRIES;
const OWN = {
  optimizer: v.optional(oneOf(...LEARNED_OPTIMIZERS)),
  scaling,
  blockSize,
  scaleSearch,
  seed,
};

/** A rounded weight. */
export interface LearnedResult extends ConvertedWeight {
  /** Report of learned rounding. */
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
  readonly #options: ConvertOptions;

  /**
   * Takes options for all weights that will be converted.
   *
   * @param options what differs from the documented defaults.
   * @throws UsageError for an unknown option, a wrong value or a contradiction.
   */
  constructor(options: LearnedRoundingOptions = {}) {
    checkOptions({ ...OWN, ...LEARNED_ENTRIES }, options, { what: "LearnedRoundingConverter" });
    const {
      optimizer: method = CTQ_DEFAULTS.method,
      scaling = CTQ_DEFAULTS.scaling,
      blockSize,
      scaleSearch,
      seed,
      ...learned
    } = options;
    const given = { method, scaling, blockSize, scaleSearch, seed, learned };
    // They are not nested here.
    const names: OptionNames = (path, value) => LIBRARY_NAMES(path.replace("learned.", ""), value);
    this.#options = resolveOptions(given, { names });
  }

  /**
   * Returns the codes of `weight`.
   *
   * @param weight a matrix, or a tensor of a loader in any float dtype. @param inputs what is known of the
   * inputs of the layer: then the error of its outputs is lowered, instead
   * of that in the leading singular directions of the weight.
   * @throws UsageError if blocks do not divide the weight; RangeError if sizes do not fit, or values
   * are not finite; FormatError if the inputs are no statistics.
   */
  convert(weight: WeightMatrix | Tensor, inputs: LayerInputData = {}): LearnedResult {
    const { learned: report, ...converted } = convertWeight(weight, inputs, this.#options);
    if (report === null) throw new TypeError("Cannot round weight: no codes were learned");
    return { ...converted, report };
  }
}
