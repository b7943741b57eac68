/** How one tensor is quantized: what the plan decides and the kernels carry out. */

/** How many elements share a scale. */
export type Scaling =
  | { readonly kind: "tensor" }
  | { readonly kind: "row" }
  | { readonly kind: "block"; readonly blockSize: number };

/** The `format` a `comfy_quant` marker names. */
export type QuantFormat = "int8_tensorwise" | "int8_axiswise" | "int8_blockwise";

/** Round to nearest, or feed each column's rounding error into those still to come. */
export type Method = "rtn" | "gptq";

/** A complete recipe for one tensor. */
export interface Scheme {
  readonly format: QuantFormat;
  readonly scaling: Scaling;
  /** Size of the regular-Hadamard groups along the columns, a power of 4; null: not rotated. */
  readonly convrotGroupSize: number | null;
  readonly scaleSearch: "off" | "mse";
  readonly method: Method;
}

/** Largest code magnitude: INT8 is used symmetrically, -128 never occurs. */
export const INT8_SYMMETRIC_MAX = 127;

/** The smallest scale; keeps an all-zero group finite (SPEC: `max(absmax / 127, 1e-30)`). */
export const SCALE_MIN = 1e-30;
