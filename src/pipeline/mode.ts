/** From options to the recipe that each layer gets: defaults of the targets, and what a shape allows. */

import { UsageError } from "../core/errors.ts";
import { convrotGroupFor } from "../presets/official_rule.ts";
import type { LayerWish } from "../presets/preset.ts";
import type { QuantFormat, Scaling, Scheme } from "../quant/scheme.ts";
import type { ConvertOptions } from "./options.ts";

/** What the options mean before a shape is known. */
export interface Mode {
  readonly scaling: "tensor" | "row" | "block";
  readonly blockSize: number;
  /** Wanted rotation; `off` where the mode has none. */
  readonly convrot: "auto" | "off" | number;
  readonly scaleSearch: "off" | "mse";
  /**
   * The search where errors are compensated in original space. Off unless asked for: least squared error
   * of the weights clips the large weights of loud channels, which the outputs need most.
   */
  readonly compensatedScaleSearch: "off" | "mse";
  readonly target: "comfyui" | "ctq";
}

/** The recipe for one layer, and what it had to give up. */
export interface SchemeChoice {
  /** Null: the layer does not fit and is kept (`--heur`). */
  readonly scheme: Scheme | null;
  /** Why it is not what was asked for; null where it is. */
  readonly fellBack: string | null;
}

/**
 * Returns the mode that `options` ask for.
 *
 * @throws UsageError where they contradict one another.
 */
export function resolveMode(options: ConvertOptions): Mode {
  const scaling = options.scaling ?? (options.target === "comfyui" ? "row" : "block");
  const byDefault = options.scaling === null && scaling === "row" && options.comfyQuant;
  const convrot = options.convrot ?? (byDefault ? "auto" : "off");
  if (convrot !== "off" && scaling !== "row") {
    throw new UsageError(
      `Cannot rotate with --scaling_mode ${scaling}: --convrot needs row scaling`,
    );
  }
  if (convrot !== "off" && !options.comfyQuant) {
    throw new UsageError(
      "Cannot rotate with --no-comfy-quant: only a comfy_quant marker tells a loader of the rotation",
    );
  }
  const scaleSearch = options.scaleSearch ?? (options.method === "simple" ? "off" : "mse");
  return {
    scaling,
    blockSize: options.blockSize,
    convrot,
    scaleSearch,
    compensatedScaleSearch: options.scaleSearch ?? "off",
    target: options.target,
  };
}

/** Returns the recipe for a layer of `rows x cols`, by `mode` or by the wish of a reference file. */
export function schemeFor(
  mode: Mode,
  layer: {
    rows: number;
    cols: number;
    heur: boolean;
    wish?: LayerWish | undefined;
    /** Whether there is calibration data for it. */
    calibrated?: boolean;
  },
): SchemeChoice {
  const asked = layer.wish === undefined ? mode : modeOfWish(mode, layer.wish);
  const misfit = misfitOf(asked, layer.rows, layer.cols);
  if (misfit !== null && layer.heur) return { scheme: null, fellBack: misfit };
  const scaling: Scaling = asked.scaling === "block"
    ? misfit === null ? { kind: "block", blockSize: asked.blockSize } : { kind: "row" }
    : { kind: asked.scaling };
  const group = asked.convrot === "off" ? null : convrotGroupFor(layer.cols, asked.convrot);
  const isRotated = scaling.kind === "row" && group !== null;
  return {
    scheme: {
      format: formatOf(scaling, group, mode.target),
      scaling,
      convrotGroupSize: isRotated ? group : null,
      scaleSearch: layer.calibrated === true && !isRotated
        ? asked.compensatedScaleSearch
        : asked.scaleSearch,
      method: layer.calibrated === true ? "gptq" : "rtn",
    },
    fellBack: misfit === null ? null : `plain row scaling: ${misfit}`,
  };
}

function modeOfWish(mode: Mode, wish: LayerWish): Mode {
  return {
    ...mode,
    scaling: wish.scaling,
    blockSize: wish.blockSize ?? mode.blockSize,
    convrot: wish.convrotGroupSize ?? "off",
  };
}

function misfitOf(mode: Mode, rows: number, cols: number): string | null {
  if (mode.scaling === "block" && (rows % mode.blockSize !== 0 || cols % mode.blockSize !== 0)) {
    return `[${rows}, ${cols}] is not divisible into ${mode.blockSize} x ${mode.blockSize} blocks`;
  }
  if (mode.convrot === "off" || convrotGroupFor(cols, mode.convrot) !== null) return null;
  return mode.convrot === "auto"
    ? `no rotation group (256, 64, 16) divides ${cols} columns`
    : `the rotation group ${mode.convrot} does not divide ${cols} columns`;
}

function formatOf(
  scaling: Scaling,
  convrotGroupSize: number | null,
  target: Mode["target"],
): QuantFormat {
  if (scaling.kind === "block") return "int8_blockwise";
  if (scaling.kind === "row" && target === "ctq" && convrotGroupSize === null) {
    return "int8_axiswise";
  }
  return "int8_tensorwise";
}

/** Shape of the F32 scales of a `rows x cols` weight, as SPEC 3 fixes it per format. */
export function scaleShape(
  scheme: Scheme,
  { rows, cols, normalizeScales }: { rows: number; cols: number; normalizeScales: boolean },
): number[] {
  switch (scheme.scaling.kind) {
    case "tensor":
      return normalizeScales ? [] : [1];
    case "row":
      return scheme.format === "int8_axiswise" ? [rows] : [rows, 1];
    case "block":
      return [rows / scheme.scaling.blockSize, cols / scheme.scaling.blockSize];
  }
}

/** The scale groups of a `rows x cols` weight. */
export function groupShape(
  scheme: Scheme,
  { rows, cols }: { rows: number; cols: number },
): { groupRows: number; groupCols: number } {
  switch (scheme.scaling.kind) {
    case "tensor":
      return { groupRows: rows, groupCols: cols };
    case "row":
      return { groupRows: 1, groupCols: cols };
    case "block":
      return { groupRows: scheme.scaling.blockSize, groupCols: scheme.scaling.blockSize };
  }
}
