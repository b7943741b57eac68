/** QuIP of single weights, for programs. */

import { checkOptions, OPTION_ENTRIES, QUIP_ENTRIES } from "../plan/option_schema.ts";
import type { ConvertOptions, QuipOptions, Segments } from "../plan/options.ts";
import { resolveOptions } from "../plan/resolve_options.ts";
import type { Tensor } from "../core/tensor.ts";
import {
  type ConvertedWeight,
  convertWeight,
  type LayerInputData,
  type WeightMatrix,
} from "./convert_weight.ts";

/** Options of a {@link QuIPInt8Converter}: those of {@link QuipOptions}, and what all methods have. */
export interface QuIPInt8Options extends Partial<QuipOptions> {
  /** Columns that share a scale with the scheme `block`. Default: that of a conversion. */
  readonly blockSize?: number;
  /**
   * Columns that are rotated together, a power of 4 that divides them: codes that ComfyUI runs natively.
   * Default: `auto`, as for a conversion; `off`, or a `requantScheme`, asks for codes in original space.
   */
  readonly convrot?: "auto" | "off" | number;
  /** Round the columns of most energy first. Default: true. */
  readonly actOrder?: boolean;
  /**
   * Use 16-bit integer error feedback: faster than f32, same quality, a few codes differ.
   * Default: true.
   */
  readonly turbo?: boolean;
  /** Cut the columns of large weights to bound the memory of their Hessians. Default: never. */
  readonly segments?: Partial<Segments> | null;
}

const { blockSize, convrot, actOrder, turbo, segments } = OPTION_ENTRIES;
const OWN = { blockSize, convrot, actOrder, turbo, segments };

/**
 * Rounds weights one by one as `--optimizer quip` does: rotated (`convrot`), in original space and then never
 * worse than rounding to nearest, or stored in the space of random signs and Hadamard transforms.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { quipInt8Matmul } from "@quantsmith/quantsmith";
 * const rows = 48, cols = 80, data = Float32Array.from({ length: rows * cols }, (_, i) => Math.sin(i * i));
 * const converter = new QuIPInt8Converter({ storeTransformed: true, seed: 7 });
 * const { codes, scale, grid, space, dequantized } = converter.convert({ data, rows, cols });
 * assert.deepEqual([codes.length, scale.length, dequantized.length], [64 * 128, 64, rows * cols]);
 * // The output of the layer, on int8 inputs.
 * const x = new Float32Array(cols).fill(1);
 * const y = quipInt8Matmul(x, { codes, scales: scale, grid, space });
 * const exact = data.subarray(0, cols).reduce((sum, w) => sum + w, 0);
 * assert(Math.abs(y[0]! - exact) < 0.1);
 * ```
 */
export class QuIPInt8Converter {
  readonly #options: ConvertOptions;

  /**
   * Takes options for all weights that will be converted.
   *
   * @param options what differs from the defaults.
   * @throws UsageError for an unknown option, a wrong value or a contradiction.
   */
  constructor(options: QuIPInt8Options = {}) {
    checkOptions({ ...OWN, ...QUIP_ENTRIES }, options, { what: "QuIPInt8Converter" });
    const { blockSize, convrot, actOrder, turbo, segments, ...quip } = options;
    const own = { blockSize, convrot, actOrder, turbo, segments };
    this.#options = resolveOptions({ ...own, method: "quip", quip });
  }

  /**
   * Returns the codes of `weight`.
   *
   * @param weight a matrix, or a tensor of a loader in any float dtype. @param inputs what is known of the
   * inputs of the layer; without it weights are rounded to nearest, in the
   * space that is stored.
   * @throws UsageError if options contradict one another or do not fit the weight; RangeError if sizes do
   * not fit, or values are not finite; FormatError if the inputs are no statistics; UnsupportedError if
   * the layer takes more than 4 GiB.
   */
  convert(weight: WeightMatrix | Tensor, inputs: LayerInputData = {}): ConvertedWeight {
    const { learned: _, ...converted } = convertWeight(weight, inputs, this.#options);
    return converted;
  }
}
