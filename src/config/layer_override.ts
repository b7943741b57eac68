/** Settings of one layer that differ from the command line's. */

import type { WeightOutput } from "../formats/outputs.ts";

/** A method of `--optimizer`. */
export type Optimizer = "original" | "adamw" | "radam" | "gptq" | "quip";

/** The documented names of the methods of `--optimizer`. */
export const OPTIMIZERS: readonly Optimizer[] = ["original", "adamw", "radam", "gptq", "quip"];

/** The settings of one layer. null: as the command line says. */
export interface LayerOverride {
  /** Keep the layer in its source dtype; the other settings then count for nothing. */
  readonly skip: boolean;
  /** The dtype that a layer which is skipped is stored in, if it has more bits; null: that of the source. */
  readonly keptAs: "BF16" | null;
  /**
   * The format of its weights, also if a preset keeps the layer. null: kept or not as without the
   * override.
   */
  readonly output: WeightOutput | null;
  /** Columns that share a scale in `w4a8` and `w6a8`. */
  readonly groupSize: number | null;
  /** Levels of `w4a8`. */
  readonly codebook: "default" | "fit" | null;
  /** Integers that the runtime multiplies in, of `w4a4`. */
  readonly linearDtype: "int4" | "int8" | null;
  /** The format to write, if one was named; it always agrees with `scaling`. */
  readonly format: string | null;
  /** If it is set and `convrot` is null, the layer is not rotated: as for `--scaling_mode`. */
  readonly scaling: "tensor" | "row" | "block" | null;
  /** Of block scaling, in elements. */
  readonly blockSize: number | null;
  /** Columns that are rotated together. */
  readonly convrot: "auto" | "off" | number | null;
  /** Round to nearest. */
  readonly simple: boolean | null;
  /** The method. */
  readonly optimizer: Optimizer | null;
  /** Ask the loader to multiply in full precision. */
  readonly fullPrecisionMatrixMult: boolean | null;
  /** Keep the layer if its shape does not suit the scaling. */
  readonly heur: boolean | null;
  /** Origin of the override, for the plan: `layer config "blocks\\.0"`, `--custom-layers`, `--fallback`. */
  readonly origin: string;
}

/** An override that changes nothing, to spread the settings of one over. */
export const NO_OVERRIDE: Omit<LayerOverride, "origin"> = Object.freeze({
  skip: false,
  keptAs: null,
  output: null,
  groupSize: null,
  codebook: null,
  linearDtype: null,
  format: null,
  scaling: null,
  blockSize: null,
  convrot: null,
  simple: null,
  optimizer: null,
  fullPrecisionMatrixMult: null,
  heur: null,
});
