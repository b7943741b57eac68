/**
 * A quantized weight in memory, and the layouts it may have: how codes and scales are made from floats and
 * read back. The INT8 layouts of this project are there; others can be added.
 */

import { UnsupportedError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../plan/options.ts";
import type { Grid } from "../backend/backend.ts";
import type { FormatWriter } from "../formats/format.ts";
import { NAMED_FORMATS } from "../formats/written_format.ts";
import type { Scaling } from "../quant/scheme.ts";
import { rotateRows, weightDequant, weightQuant } from "./int8.ts";

/** Stored form of a weight `[rows, cols]`. */
export interface QuantizedParts {
  /** Codes, row-major. */
  readonly codes: Int8Array;
  /** Scales, in the order of the groups. */
  readonly scales: Float32Array;
  /** Shape of the scales as a file has them. */
  readonly scaleShape: readonly number[];
}

/** Sizes of a weight and the parameters of its layout. */
export interface LayoutOptions {
  /** Rows of the matrix. */
  readonly rows: number;
  /** Columns of the matrix. */
  readonly cols: number;
  /** Size of blocks, of layouts that have them. Default: that of a conversion. */
  readonly blockSize?: number;
  /** Rotation group, of layouts that rotate; 0 or absent: none. */
  readonly convrotGroupSize?: number;
  /** One scale for the whole weight, of layouts that may have one. Default: one per row. */
  readonly isPerTensor?: boolean;
  /** Shrink scales to those of least squared error. Default: false. */
  readonly searchScale?: boolean;
}

/** How weights are quantized and read back. */
export interface Layout {
  /**
   * Returns codes and scales.
   *
   * @param w f32 `[rows, cols]`.
   */
  quantize(w: Float32Array, options: LayoutOptions): QuantizedParts;
  /** Returns f32 `[rows, cols]` in original space. */
  dequantize(parts: QuantizedParts, options: LayoutOptions): Float32Array;
}

const LAYOUTS = new Map<string, Layout>();

/**
 * Makes a layout known under `name`, which may be that of a format in a `comfy_quant` marker.
 *
 * @throws UnsupportedError if the name is taken.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * registerLayout("halves", {
 *   quantize: (w) => ({
 *     codes: Int8Array.from(w, (x) => 2 * x),
 *     scales: Float32Array.of(0.5),
 *     scaleShape: [],
 *   }),
 *   dequantize: ({ codes }) => Float32Array.from(codes, (q) => q / 2),
 * });
 * const tensor = QuantizedTensor.fromFloat(Float32Array.of(1.5, -2), "halves", { rows: 1, cols: 2 });
 * assert.deepEqual([...tensor.dequantize()], [1.5, -2]);
 * ```
 */
export function registerLayout(name: string, layout: Layout): void {
  if (LAYOUTS.has(name)) {
    throw new UnsupportedError(`Cannot register layout ${JSON.stringify(name)}: the name is taken`);
  }
  LAYOUTS.set(name, layout);
}

/** Returns the names of all layouts, those of this project first. */
export function layoutNames(): string[] {
  return [...LAYOUTS.keys()];
}

function layoutOf(name: string): Layout {
  const layout = LAYOUTS.get(name);
  if (layout !== undefined) return layout;
  const near = nearest(name, layoutNames());
  throw new UnsupportedError(
    `Cannot use layout ${JSON.stringify(name)}: it is not registered` +
      `; did you mean ${JSON.stringify(near)}`,
  );
}

/** A weight as codes and scales. */
export class QuantizedTensor {
  /** Name of the layout. */
  readonly layout: string;
  /** Sizes, and the parameters of the layout. */
  readonly options: LayoutOptions;
  /** Codes and scales. */
  readonly parts: QuantizedParts;

  /**
   * Wraps what was read from a file, or was quantized elsewhere.
   *
   * @param parts as the layout stores them.
   */
  constructor(parts: QuantizedParts, layout: string, options: LayoutOptions) {
    this.parts = parts;
    this.layout = layout;
    this.options = Object.freeze({ ...options });
  }

  /**
   * Returns `w` rounded to nearest in a layout.
   *
   * @param w f32 `[rows, cols]`, finite.
   * @throws UnsupportedError if there is no such layout; RangeError if sizes do not fit it.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * const w = Float32Array.of(1, -0.5, 0.25, 0, 3, 2, 1, 0);
   * const tensor = QuantizedTensor.fromFloat(w, "int8_tensorwise", { rows: 2, cols: 4 });
   * assert.deepEqual(tensor.parts.scaleShape, [2, 1]);
   * assert.equal(tensor.dequantize()[4], 3);
   * ```
   */
  static fromFloat(w: Float32Array, layout: string, options: LayoutOptions): QuantizedTensor {
    const { rows, cols } = options;
    if (w.length !== rows * cols) {
      throw new RangeError(
        `Cannot quantize: ${w.length} values, [${rows}, ${cols}] needs ${rows * cols}`,
      );
    }
    const bad = w.findIndex((x) => !Number.isFinite(x));
    if (bad >= 0) throw new RangeError(`Cannot quantize: value ${bad} is ${w[bad]}`);
    return new QuantizedTensor(layoutOf(layout).quantize(w, options), layout, options);
  }

  /** Returns f32 `[rows, cols]` in original space. */
  dequantize(): Float32Array {
    return layoutOf(this.layout).dequantize(this.parts, this.options);
  }
}

function rotated(x: Float32Array, { cols, convrotGroupSize = 0 }: LayoutOptions): Float32Array {
  return convrotGroupSize === 0 ? x : rotateRows(x, { cols, groupSize: convrotGroupSize });
}

/** How much of a weight one scale covers in a format, by what the options say. */
function scalingOf(
  { scalings }: FormatWriter,
  { isPerTensor = false, blockSize = DEFAULT_CONVERT_OPTIONS.blockSize }: LayoutOptions,
): Scaling {
  if (isPerTensor && scalings.includes("tensor")) return { kind: "tensor" };
  return scalings.includes("row") ? { kind: "row" } : { kind: "block", blockSize };
}

/** The layout of a format that conversions write: codes on a grid of scale groups, rotated if asked for. */
function layoutOfFormat(writer: FormatWriter): Layout {
  const gridOf = (options: LayoutOptions): Grid => {
    const { rows, cols } = options, scaling = scalingOf(writer, options);
    if (scaling.kind === "block") {
      return { rows, cols, groupRows: scaling.blockSize, groupCols: scaling.blockSize };
    }
    return { rows, cols, groupRows: scaling.kind === "tensor" ? rows : 1, groupCols: cols };
  };
  return {
    quantize(w, options) {
      const { rows, cols, searchScale = false } = options;
      const own = rotated(w, options);
      const { codes, scales } = weightQuant(own, gridOf(options), { searchScale });
      const size = { rows, cols, normalizeScales: true };
      return { codes, scales, scaleShape: writer.scaleShape(scalingOf(writer, options), size) };
    },
    dequantize({ codes, scales }, options) {
      return rotated(weightDequant({ codes, scales, grid: gridOf(options) }), options);
    },
  };
}

for (const [format, writer] of NAMED_FORMATS) registerLayout(format, layoutOfFormat(writer));
