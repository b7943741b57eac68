/** From options to the recipe that each layer gets: defaults of the targets, and what a shape allows. */

import { convrotGroupFor, noRotationGroup } from "../quant/rotation_groups.ts";
import type { LayerRecipe } from "../presets/preset.ts";
import { isLearnedOptimizer, type LearnedOptimizer } from "../quant/learned/options.ts";
import { paddedSize } from "../quant/incoherence.ts";
import type { AskedGrid, WrittenLayout } from "../formats/format.ts";
import { formatFor, gridWriterFor, gridWriterOf, writerOf } from "../formats/written_format.ts";
import { isGridOutput } from "../formats/outputs.ts";
import type { Scaling, Scheme } from "../quant/scheme.ts";
import { type ConvertOptions, CTQ_DEFAULTS } from "./options.ts";

/** The mode before a shape is known. */
export interface Mode {
  readonly scaling: "tensor" | "row" | "block" | "group";
  readonly blockSize: number;
  /** The seed of the random signs if codes are stored transformed; null: they are not. */
  readonly transformSeed: number | null;
  /**
   * The method that compensates errors if there is calibration data; or learned rounding, with data or
   * without.
   */
  readonly method: "gptq" | "quip" | LearnedOptimizer;
  readonly learned: NonNullable<Scheme["learned"]>;
  /** Wanted rotation; `off` if the mode has none. */
  readonly convrot: "auto" | "off" | number;
  readonly scaleSearch: "off" | "mse";
  /**
   * The search if errors are compensated in original space. Off unless asked for: least squared error
   * of the weights clips the large weights of loud channels, which the outputs need most.
   */
  readonly compensatedScaleSearch: "off" | "mse";
  readonly target: "comfyui" | "ctq";
  /** The format that was asked for, if it is no INT8. */
  readonly grid: AskedGrid | null;
}

/** The recipe for one layer, and what it had to give up. */
export interface SchemeChoice {
  /** Null: the layer does not fit and is kept (`--heur`). */
  readonly scheme: Scheme | null;
  /** Why it is not what was asked for; null if it is. */
  readonly fellBack: string | null;
}

/** Returns the mode of `options`, which do not contradict one another: `resolveOptions` makes sure of it. */
export function resolveMode(options: ConvertOptions): Mode {
  const { quip } = options, isQuip = options.method === "quip";
  const scaling = scalingNameOf(options);
  const grid = gridOf(options);
  const convrot = options.convrot ??
    (grid !== null || rotatesByDefault(options) ? "auto" : "off");
  const scaleSearch = options.scaleSearch ?? (options.method === "simple" ? "off" : "mse");
  return {
    scaling,
    blockSize: options.blockSize,
    convrot,
    scaleSearch,
    compensatedScaleSearch: options.scaleSearch ?? "off",
    target: options.target,
    grid,
    transformSeed: isQuip && quip.storeTransformed ? quip.seed : null,
    method: isQuip || isLearnedOptimizer(options.method) ? options.method : "gptq",
    learned: { options: options.learned, seed: options.seed },
  };
}

/** The grid of `--format`; null: INT8. */
function gridOf(options: ConvertOptions): AskedGrid | null {
  const { output, groupSize, linearDtype, codebook } = options;
  return isGridOutput(output) ? { output, groupSize, linearDtype, codebook } : null;
}

/** Whether rows are rotated though nothing asks for it: with the target comfyui, in every method. */
function rotatesByDefault(options: ConvertOptions): boolean {
  const { scaling, target, method, quip, comfyQuant } = options;
  if (scaling !== null || !comfyQuant || scalingNameOf(options) !== "row") return false;
  return method !== "quip" ||
    (target === "comfyui" && !quip.storeTransformed && quip.requantScheme === null);
}

/** Returns the scaling of layers that nothing is said of, if they fit it. */
export function scalingNameOf(
  options: Pick<ConvertOptions, "scaling" | "target" | "method" | "quip" | "convrot">,
): Mode["scaling"] {
  const { scaling, target, method, quip, convrot } = options;
  if (scaling !== null) return scaling;
  if (method !== "quip") return target === "comfyui" ? "row" : CTQ_DEFAULTS.scaling;
  if (quip.storeTransformed || (convrot !== null && convrot !== "off")) return "row";
  if (quip.requantScheme === "block") return "group";
  return quip.perRow ? "row" : "tensor";
}

/**
 * Returns the mode of an expert bank: the one layout that its loader knows, with a scale per row of every
 * expert, rounded to nearest or with errors compensated.
 */
export function bankMode(mode: Mode): Mode {
  return {
    ...mode,
    scaling: "row",
    grid: null,
    convrot: mode.scaling === "row" ? mode.convrot : "off",
    target: "comfyui",
    transformSeed: null,
    method: isLearnedOptimizer(mode.method) ? "gptq" : mode.method,
  };
}

/** Returns the scheme for a layer of `rows x cols`, by `mode` or by the recipe of a reference file. */
export function schemeFor(
  mode: Mode,
  layer: {
    rows: number;
    cols: number;
    heur: boolean;
    recipe?: LayerRecipe | undefined;
    /** Whether there is calibration data for it. */
    calibrated?: boolean;
  },
): SchemeChoice {
  const asked = layer.recipe === undefined ? mode : modeOfRecipe(mode, layer.recipe);
  if (asked.grid !== null) return gridScheme(asked, asked.grid, layer);
  const misfit = misfitOf(asked, layer.rows, layer.cols);
  if (misfit !== null && layer.heur) return { scheme: null, fellBack: misfit };
  const scaling = misfit === null ? scalingOf(asked) : { kind: "row" } as const;
  const group = asked.convrot === "off" ? null : convrotGroupFor(layer.cols, asked.convrot);
  const isRotated = scaling.kind === "row" && group !== null;
  // QuIP by row is held to the weight error of rounding to nearest: least squared error suits it.
  const isHeld = asked.method === "quip" && scaling.kind === "row";
  const isLearned = isLearnedOptimizer(asked.method);
  return {
    scheme: {
      format: formatFor({ scaling, isRotated: group !== null, target: mode.target }),
      scaling,
      convrotGroupSize: isRotated ? group : null,
      scaleSearch: layer.calibrated === true && !isRotated && !isHeld && !isLearned
        ? asked.compensatedScaleSearch
        : asked.scaleSearch,
      method: layer.calibrated === true || isLearned ? asked.method : "rtn",
      ...(isLearned ? { learned: asked.learned } : {}),
      ...transformOf(asked, layer),
    },
    fellBack: misfit === null ? null : `plain row scaling: ${misfit}`,
  };
}

/** The recipe of a format with a grid of its own, or that of INT8 if the layer does not fit it. */
function gridScheme(
  mode: Mode,
  asked: AskedGrid,
  layer: Parameters<typeof schemeFor>[1],
): SchemeChoice {
  const { rows, cols, heur, calibrated = false } = layer;
  const { format, writer } = gridWriterFor(asked.output);
  const rotation = mode.convrot === "off" || !writer.rotates
    ? null
    : convrotGroupFor(cols, mode.convrot);
  const levels = cols > GRID_COLS_MAX
    ? `its rows have ${cols} columns, at most ${GRID_COLS_MAX} are put on such a grid`
    : writer.levels(asked, { rows, cols, rotation });
  if (typeof levels === "string") {
    if (heur) return { scheme: null, fellBack: levels };
    const { scheme, fellBack } = schemeFor({ ...mode, grid: null }, layer);
    return { scheme, fellBack: `INT8 instead of ${asked.output}: ${fellBack ?? levels}` };
  }
  if (!("bits" in levels)) {
    return {
      scheme: {
        format,
        scaling: { kind: "tensor" },
        convrotGroupSize: null,
        scaleSearch: mode.scaleSearch,
        method: "rtn",
        floats: levels,
      },
      fellBack: null,
    };
  }
  return {
    scheme: {
      format,
      scaling: { kind: "row" },
      convrotGroupSize: rotation,
      scaleSearch: mode.scaleSearch,
      // Never learned rounding: `refuseContradictions` does not let it pass.
      method: calibrated && !isLearnedOptimizer(mode.method) ? mode.method : "rtn",
      levels,
    },
    fellBack: null,
  };
}

/** Rows of a chunk are put on a grid as a whole. */
const GRID_COLS_MAX = 1 << 18;

/** Tensors of a weight on the grid of its format; null: it is INT8. */
export function layoutOfGrid(
  { format, levels, floats, convrotGroupSize: rotation }: Scheme,
  size: { readonly rows: number; readonly cols: number; linearDtype: AskedGrid["linearDtype"] },
): WrittenLayout | null {
  const grid = levels ?? floats;
  return grid === undefined ? null : gridWriterOf(format)!.layout(grid, { ...size, rotation });
}

function scalingOf({ scaling, blockSize }: Mode): Scaling {
  switch (scaling) {
    case "block":
      return { kind: "block", blockSize };
    case "group":
      return { kind: "group", groupCols: blockSize };
    default:
      return { kind: scaling };
  }
}

function transformOf(
  { transformSeed: seed }: Mode,
  { rows, cols, recipe }: { rows: number; cols: number; recipe?: LayerRecipe | undefined },
): Pick<Scheme, "method" | "transform"> | Record<never, never> {
  if (seed === null || recipe !== undefined) return {};
  return { method: "quip", transform: { rows: paddedSize(rows), cols: paddedSize(cols), seed } };
}

function modeOfRecipe(mode: Mode, recipe: LayerRecipe): Mode {
  return {
    ...mode,
    scaling: recipe.scaling,
    blockSize: recipe.blockSize ?? mode.blockSize,
    convrot: recipe.convrotGroupSize ?? "off",
    // Formats write their own words there.
    grid: recipe.grid === undefined ? null : recipe.grid as AskedGrid,
  };
}

function misfitOf(mode: Mode, rows: number, cols: number): string | null {
  if (mode.scaling === "block" && (rows % mode.blockSize !== 0 || cols % mode.blockSize !== 0)) {
    return `[${rows}, ${cols}] is not divisible into ${mode.blockSize} x ${mode.blockSize} blocks`;
  }
  if (mode.scaling === "group" && cols % mode.blockSize !== 0) {
    return `${cols} columns are not divisible into groups of ${mode.blockSize}`;
  }
  if (mode.convrot === "off" || convrotGroupFor(cols, mode.convrot) !== null) return null;
  return mode.convrot === "auto"
    ? noRotationGroup(cols)
    : `the rotation group ${mode.convrot} does not divide ${cols} columns`;
}

/** Shape of the F32 scales of a `rows x cols` weight. */
export function scaleShape(
  scheme: Scheme,
  size: { rows: number; cols: number; normalizeScales: boolean },
): number[] {
  return writerOf(scheme.format).scaleShape(scheme.scaling, size);
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
    case "group":
      return { groupRows: 1, groupCols: scheme.scaling.groupCols };
  }
}
