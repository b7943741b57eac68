/** GPTQ of single weights, for programs. */

import { checkOptions, OPTION_ENTRIES } from "../plan/option_schema.ts";
import type { ConvertOptions, Segments } from "../plan/options.ts";
import { resolveOptions } from "../plan/resolve_options.ts";
import type { Tensor } from "../core/tensor.ts";
import {
  type ConvertedWeight,
  convertWeight,
  type LayerInputData,
  type WeightMatrix,
} from "./convert_weight.ts";

/** Options of a {@link GPTQInt8Converter}. */
export interface GPTQInt8Options {
  /** Weights that share a scale. Default: `row`. */
  readonly scaling?: "tensor" | "row" | "block";
  /** Edge of a block. Default: that of a conversion. */
  readonly blockSize?: number;
  /**
   * Columns that are rotated together, a power of 4 that divides them; row scaling only. Default: `auto`, the
   * largest of 256, 64 and 16 that does, with row scaling, else `off`.
   */
  readonly convrot?: "auto" | "off" | number;
  /** Round the columns of most energy first. Default: true. */
  readonly actOrder?: boolean;
  /**
   * Use 16-bit integer error feedback: faster than f32, same quality, a few codes differ.
   * Default: true.
   */
  readonly turbo?: boolean;
  /** Scales of least squared error, or largest magnitude / 127. Default: as of the command line. */
  readonly scaleSearch?: "off" | "mse";
  /** Cut the columns of large weights to bound the memory of their Hessians. Default: never. */
  readonly segments?: Partial<Segments> | null;
}

const { scaling, blockSize, convrot, actOrder, turbo, scaleSearch, segments } = OPTION_ENTRIES;
const ENTRIES = { scaling, blockSize, convrot, actOrder, turbo, scaleSearch, segments };

/**
 * Rounds weights one by one with error compensation, on the grid and in the space that is stored.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * const cols = 64, data = Float32Array.from({ length: 32 * cols }, (_, i) => Math.sin(i * i));
 * // Second moments of inputs that all have something in common.
 * const hessian = Float64Array.from(
 *   { length: cols * cols },
 *   (_, i) => i % (cols + 1) === 0 ? 2 : 1,
 * );
 * const converter = new GPTQInt8Converter({ convrot: 16 });
 * const { codes, scale, dequantized, note } = converter.convert({ data, rows: 32, cols }, { hessian });
 * assert.deepEqual([codes.length, scale.length, dequantized.length], [2048, 32, 2048]);
 * assert.match(note!, /gptq from hessian/);
 * ```
 */
export class GPTQInt8Converter {
  readonly #options: ConvertOptions;

  /**
   * Takes options for all weights that will be converted.
   *
   * @param options what differs from the defaults.
   * @throws UsageError for an unknown option, a wrong value or a contradiction.
   */
  constructor(options: GPTQInt8Options = {}) {
    const given = checkOptions(ENTRIES, options, { what: "GPTQInt8Converter" });
    // Rows that are asked for are rotated here as rows that are not: the grid is what counts.
    const scaling = options.scaling === "row" ? undefined : options.scaling;
    this.#options = resolveOptions({ ...given, scaling, method: "gptq" });
  }

  /**
   * Returns the codes of `weight`. Memory: 8 cols² bytes besides the weight.
   *
   * @param weight a matrix, or a tensor of a loader in any float dtype.
   * @param inputs known inputs of the layer; without them, or if they do not help (the note says so),
   *   weights are rounded to nearest.
   * @throws UsageError if options contradict one another or do not fit the weight; RangeError if sizes do
   * not fit, or values are not finite; FormatError if the inputs are no statistics; UnsupportedError if
   * the layer takes more than 4 GiB.
   */
  convert(weight: WeightMatrix | Tensor, inputs: LayerInputData = {}): ConvertedWeight {
    const { learned: _, ...converted } = convertWeight(weight, inputs, this.#options);
    return converted;
  }
}
