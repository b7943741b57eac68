/** How one tensor is quantized: what the plan decides and the kernels carry out. */

import type { FloatScheme } from "./float_grid.ts";
import type { LevelScheme } from "./level_grid.ts";
import type { LearnedOptimizer, LearnedOptions } from "./learned/options.ts";

/** How many elements share a scale. */
export type Scaling =
  | { readonly kind: "tensor" }
  | { readonly kind: "row" }
  | { readonly kind: "block"; readonly blockSize: number }
  /** Every row has a scale for each `groupCols` columns: `[N, K / groupCols, 1]`. */
  | { readonly kind: "group"; readonly groupCols: number };

/**
 * Round to nearest; or feed each column's rounding error into those still to come (gptq); the same after
 * incoherence processing, or within the weight error of rounding to nearest (quip); or move codes if that
 * lowers what matters (learned rounding).
 */
export type Method = "rtn" | "gptq" | "quip" | LearnedOptimizer;

/** Incoherence processing of codes that are stored transformed: see `quant/incoherence.ts`. */
export interface Transform {
  /** Padded rows, a power of 2. */
  readonly rows: number;
  /** Padded columns, a power of 2. */
  readonly cols: number;
  /** Seed of the random signs. */
  readonly seed: number;
}

/** A complete recipe for one tensor. */
export interface Scheme {
  /** Id of the format that is written, which its marker names. */
  readonly format: string;
  /** Which weights share a scale. */
  readonly scaling: Scaling;
  /** Size of the regular-Hadamard groups along the columns, a power of 4; null: not rotated. */
  readonly convrotGroupSize: number | null;
  /** How scales are chosen. */
  readonly scaleSearch: "off" | "mse";
  /** How codes are chosen. */
  readonly method: Method;
  /** The levels that weights may take, if they are not all integers from -127 to 127. */
  readonly levels?: LevelScheme;
  /** Weights are floats of few bits. */
  readonly floats?: FloatScheme;
  /** Codes are those of the transformed weight, at its padded size. */
  readonly transform?: Transform;
  /** Set if the method is one of learned rounding. */
  readonly learned?: { readonly options: LearnedOptions; readonly seed: number };
}

/** Largest code magnitude: INT8 is used symmetrically, -128 never occurs. */
export const INT8_SYMMETRIC_MAX = 127;

/** The smallest scale; keeps an all-zero group finite (SPEC: `max(absmax / 127, 1e-30)`). */
export const SCALE_MIN = 1e-30;
