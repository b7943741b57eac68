/**
 * Quantizes a layer with error compensation, by all workers together: the Hessian from the calibration
 * data, rotated where the codes are and factored by the team; then everybody takes bands of rows.
 *
 * Memory. All share the Hessian, 8 K² bytes (8 K g for channel statistics, g the rotation group), which
 * its factor replaces, and ACTIVATION_ROWS rows of calibration inputs; each worker has a band of rows.
 * `gptqSharedBytes` and `gptqScratchBytes` have the formulas.
 */

import { type Grid, groupCount } from "../../backend/backend.ts";
import { choleskyScratchBytes } from "../../linalg/cholesky.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import type { MatrixF32 } from "../../linalg/matrix.ts";
import { diagonalOf, type Hessian, hessianBlock, shrinkToDiagonal } from "../../linalg/hessian.ts";
import { packedErrorsBytes } from "../../linalg/packed_factor.ts";
import { residualEnergies, searchCompensatedScales } from "../../quant/compensated_scale.ts";
import { type GptqFactor, gptqRows, packedBytes, prepareGptq } from "../../quant/gptq.ts";
import { roundInRowSpace, rowSpaceScratchBytes } from "../../quant/row_space.ts";
import type { CompensatedNote, Note } from "../note.ts";
import { quantizeGrid } from "../quantize_grid.ts";
import { chunkRect, type Rect } from "../chunk_grid.ts";
import { elementBytes, type QuantizeTask } from "../tasks.ts";
import type { Compensation } from "../../calibration/compensation.ts";
import { bytesOf } from "../../core/bytes.ts";
import { SLOT } from "../layer_statistics.ts";
import { type ChunkContext, takeNumbers, type TeamContext } from "./chunk_context.ts";
import {
  denseMeasures,
  guardRows,
  guardRowsBytes,
  largestShare,
  type RowMeasures,
  rowSpaceGuardBytes,
  rowSpaceMeasures,
} from "./guard_rows.ts";
import { levelsBandBytes, quantizeLevelsBand } from "./gptq_levels_band.ts";
import { guardByHeldOut, heldOutBytes, heldOutGuardBytes, loadHeldOut } from "./held_out_guard.ts";
import { decodeRect, decodeScratchBytes, rawBytes, readRect } from "./load_rect.ts";
import { codeBlockSize, hessianElements, inputBytes, rotatedHessian } from "./load_hessian.ts";
import { addErrors, reportNonFinite, writeCodes } from "./quantize_chunk.ts";
import { dropFactor, type PlacedRows, placeFactor, roundRows } from "./round_rows.ts";
import { rowSpaceBlockCols } from "./row_space_choice.ts";
import { rowSpaceLayer, rowSpaceLayerBytes } from "./row_space_layer.ts";
import { bandGrid, hasOneScale, LayerScales, layerScalesBytes } from "./layer_scales.ts";

/**
 * The damping of rounding that must not add to the weight error: so strong that what is fed back moves
 * little but the weights near the middle between two codes, which cost next to nothing to move.
 */
const GUARDED_DAMPING = 10;

/** Reads, quantizes and writes the layer of `task`. Every worker of the run calls it, for the same task. */
export function gptqLayer(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
): void {
  const scales = new LayerScales(team, task);
  const blockCols = rowSpaceBlockCols(task);
  const { drop, ...layer } = blockCols === null
    ? denseLayer(team, task, compensation, scales)
    : layerInRowSpace(team, task, compensation, { scales, blockCols });
  if (layer.oneScale !== null && team.linalg.team.index === 0) {
    team.write(bytesOf(Float32Array.of(layer.oneScale)), task.scalesOffsetBytes);
  }
  const { levels } = task;
  for (let chunk = team.nextChunk(); chunk !== null; chunk = team.nextChunk()) {
    const rect = chunkRect(quantizeGrid(task), chunk.index), { context } = chunk;
    if (levels === undefined) quantizeBand(context, team.linalg, layer, rect);
    else {
      const own = { ...layer, task: { ...layer.task, levels } };
      quantizeLevelsBand(context, team.linalg, own, rect);
    }
    team.chunkDone(chunk.context);
  }
  drop();
}

/** A layer that is rounded by its factored K x K Hessian. */
function denseLayer(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
  scales: LayerScales,
): Layer & { drop(): void } {
  const { linalg } = team;
  const heldOut = loadHeldOut(team, task, compensation);
  const hessian = rotatedHessian(team, task, compensation);
  if (compensation.pairs !== 1) shrinkPairs(linalg, hessian, compensation.pairs);
  const guard = compensation.guarded ? diagonalOf(hessian) : null;
  // Where large weights are clipped, their columns should come early; rotation leaves few of them.
  const weighted = compensation.weightedScales && task.convrotGroupSize === null &&
    hessian.blockSize > 1;
  const importance = weighted && compensation.actOrder && task.groupRows > 1
    ? scales.importance(diagonalOf(hessian))
    : null;
  const damping = guard !== null ? GUARDED_DAMPING : compensation.damping;
  const factor = prepareGptq(linalg, hessian, {
    ...compensation,
    damping,
    importance,
    turbo: feedsIntegers(task) ? team.shared : null,
  });
  const { fallback } = factor.report;
  if (linalg.team.index === 0) {
    team.note(noteOf(guard !== null ? "guardedQuip" : "gptq", compensation, factor));
  }
  const isPlain = fallback !== null || !weighted;
  const scaleSearch = fallback === null ? task.scaleSearch : compensation.fallbackScaleSearch;
  const searched = { ...task, scaleSearch };
  const oneScale = !hasOneScale(task)
    ? null
    : isPlain
    ? scales.plain(searched)
    : scales.weighted(residualEnergies(factor));
  const placed = placeFactor(team, task, factor);
  return {
    task: searched,
    oneScale,
    weightedBy: isPlain ? null : factor,
    plainSearch: compensation.fallbackScaleSearch,
    guard,
    share: largestShare(compensation),
    round: (context, own, rows) => roundRows(context, own, { ...placed, ...rows }),
    measures: (context, own) => fallback === null ? denseMeasures(context, own, factor) : null,
    heldOut: fallback === null ? heldOut : null,
    drop: () => dropFactor(team, placed),
  };
}

/** A layer that is rounded in the space of its calibration rows. */
function layerInRowSpace(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
  { scales, blockCols }: { readonly scales: LayerScales; readonly blockCols: number },
): Layer & { drop(): void } {
  const heldOut = loadHeldOut(team, task, compensation);
  const found = rowSpaceLayer(team, task, compensation, blockCols);
  const { factor } = found;
  if (team.linalg.team.index === 0) {
    const report = factor === null
      ? { damping: null, dampingRaised: false, deadChannels: 0, fallback: found.reason }
      : {
        damping: compensation.damping,
        dampingRaised: false,
        deadChannels: found.deadChannels,
        fallback: null,
      };
    const size = task.source.cols;
    const made = { size, blockSize: size, report };
    team.note(noteOf("gptq", compensation, made, { inRowSpace: true }));
  }
  const scaleSearch = factor === null ? compensation.fallbackScaleSearch : task.scaleSearch;
  const searched = { ...task, scaleSearch };
  const toNearest = nothingToFeedBack(task.source.cols);
  return {
    task: searched,
    oneScale: hasOneScale(task) ? scales.plain(searched) : null,
    weightedBy: null,
    plainSearch: compensation.fallbackScaleSearch,
    guard: null,
    share: largestShare(compensation),
    round: (_context, own, rows) =>
      factor === null ? gptqRows(own, toNearest, rows) : roundInRowSpace(own, factor, rows),
    measures: (context, own) => factor === null ? null : rowSpaceMeasures(context, own, factor),
    heldOut: factor === null ? null : heldOut,
    drop: () => {},
  };
}

/** The factor by which rows are rounded to nearest. */
function nothingToFeedBack(size: number): GptqFactor {
  return {
    size,
    blockSize: 1,
    values: new Float64Array(),
    order: null,
    packed: null,
    diagonal: new Float64Array(size),
    report: { damping: null, dampingRaised: false, deadChannels: 0, fallback: "no Hessian" },
  };
}

/** Whether errors are fed back in integers: on a GPU, and where it fails on the way, it is in f32. */
export function feedsIntegers({ compensation, onGpu }: QuantizeTask): boolean {
  return (compensation?.turbo ?? false) && onGpu === undefined;
}

/** Makes pairs of channels count less. Ends in a barrier. */
function shrinkPairs(linalg: LinalgContext, hessian: Hessian, factor: number): void {
  for (let index = 0; index < hessian.size / hessian.blockSize; index++) {
    shrinkToDiagonal(linalg, hessianBlock(hessian, index), factor);
  }
}

/** What everybody knows of a layer before the bands are taken. */
interface Layer {
  readonly task: QuantizeTask;
  /** Rounds rows, as `gptqRows` does. `weights` become errors if `errors` is true, else they may. */
  round(context: ChunkContext, linalg: LinalgContext, rows: PlacedRows): void;
  /** How the errors of rows are measured; null: all are rounded to nearest, and nothing is to be held. */
  measures(context: ChunkContext, linalg: LinalgContext): RowMeasures | null;
  /** Inputs that nothing was fitted to, f32 `[K, inputs]`; null: none, or all rows are rounded to nearest. */
  readonly heldOut: MatrixF32 | null;
  /** The scale of the whole layer, where there is only one. */
  readonly oneScale: number | null;
  /** By what scales are those of least error after compensation; null: they are not. */
  readonly weightedBy: GptqFactor | null;
  /** Whether rounding to nearest searches its scales. */
  readonly plainSearch: boolean;
  /** See {@link largestShare}. */
  readonly share: number;
  /**
   * Energies of the input channels, f64 `[K]`, where rows are to lose to plain rounding neither in the
   * weight error nor in that of the outputs; null: they may.
   */
  readonly guard: Float64Array | null;
}

/** What became of the Hessian. */
export function noteOf(
  manner: CompensatedNote["manner"],
  { statistic, directions }: Compensation,
  { size, blockSize, report }: Pick<GptqFactor, "size" | "blockSize" | "report">,
  { inRowSpace = false }: { readonly inRowSpace?: boolean } = {},
): Note {
  const { damping, dampingRaised, deadChannels, fallback } = report;
  if (fallback !== null) return { kind: "fallback", reason: fallback };
  return {
    kind: "compensated",
    manner,
    statistic,
    directions: directions?.rank ?? null,
    damping,
    dampingRaised,
    segments: statistic === "channels" ? 1 : size / blockSize,
    deadChannels,
    inRowSpace,
  };
}

/** Reads, rounds and writes the rows of `rect`: whole groups, or a part of the only one. */
function quantizeBand(
  context: ChunkContext,
  linalg: LinalgContext,
  layer: Layer,
  rect: Rect,
): void {
  const { task, oneScale, weightedBy, plainSearch, guard, share } = layer;
  const { scratch, kernels } = context;
  const { cols } = task.source;
  const count = rect.rows * cols;
  const grid = bandGrid(task, rect);
  const mark = scratch.mark();
  const raw = scratch.u8(rawBytes(task.source, rect));
  const x = scratch.f32(count), xhat = scratch.f32(count);
  const codes = scratch.i8(count);
  const scales = scratch.f32(groupCount(grid));
  const plain = weightedBy !== null && oneScale === null ? scratch.f32(scales.length) : scales;
  const stats = takeNumbers(context);
  readRect(context, raw, task.source, rect);
  const restore = () => decodeRect(context, x, raw, task.source, rect);
  restore();
  if (!reportNonFinite(context, x, rect, cols)) {
    if (task.convrotGroupSize !== null) kernels.rotate(x, task.convrotGroupSize);
    if (oneScale !== null) scales[0] = oneScale;
    else {
      kernels.absmax(scales, x, grid);
      kernels.scaleFromAbsmax(scales, scales);
      if (weightedBy !== null) {
        plain.set(scales);
        if (plainSearch) kernels.searchScale(plain, x, grid);
        searchCompensatedScales(weightedBy, scales, x, grid);
      } else if (task.scaleSearch) kernels.searchScale(scales, x, grid);
    }
    const limits = guard === null ? null : holdScales(context, guard, { x, xhat, scales, grid });
    const rows = { weights: x, codes, firstRow: 0, layerRow: rect.row, grid, scales };
    xhat.set(x); // rounding uses the weights up
    layer.round(context, linalg, { ...rows, errors: limits !== null });
    const moved = limits === null ? null : rowEnergies(x, cols);
    const nearest = new Set<number>();
    for (let row = 0; limits !== null && row < rect.rows; row++) {
      if (moved![row]! <= limits[row]!) continue;
      const one = { rows: 1, cols, groupRows: 1, groupCols: cols };
      const first = row * cols, end = first + cols;
      const scale = scales.subarray(row, row + 1);
      kernels.quantize(codes.subarray(first, end), xhat.subarray(first, end), scale, one);
      nearest.add(row);
    }
    const guarded = { weights: xhat, codes, scales, plain, grid, share };
    const measures = layer.measures(context, linalg);
    const lost = measures === null ? [] : guardRows(context, measures, guarded);
    for (const row of lost) nearest.add(row);
    if (layer.heldOut !== null) {
      for (const row of guardByHeldOut(context, linalg, layer.heldOut, guarded)) nearest.add(row);
    }
    if (task.convrotGroupSize === null) restore();
    addErrors(context, task, { x, xhat, codes, scales, grid, stats, restore });
    writeCodes(context, task, rect, codes);
    context.slot.set(stats);
    context.slot[SLOT.quantize.rowsToNearest] = nearest.size;
    if (oneScale === null) {
      const first = (rect.row / task.groupRows) * (cols / task.groupCols);
      context.write(bytesOf(scales), task.scalesOffsetBytes + 4 * first);
    }
  }
  scratch.release(mark);
}

/**
 * Gives rows the scale of their largest weight where the one at hand would add to the error of the outputs,
 * as far as channels by themselves tell. Returns the squared weight error that no row may exceed: that of
 * rounding it to nearest with the scale of its largest weight.
 */
function holdScales(
  { kernels, scratch }: ChunkContext,
  energies: Float64Array,
  band: { x: Float32Array; xhat: Float32Array; scales: Float32Array; grid: Grid },
): Float64Array {
  const { x, xhat, scales, grid } = band;
  const mark = scratch.mark();
  const plain = scratch.f32(scales.length), codes = scratch.i8(x.length);
  const errorsWith = (scales: Float32Array): Float32Array => {
    kernels.quantize(codes, x, scales, grid);
    kernels.dequantize(xhat, codes, scales, grid);
    for (let i = 0; i < x.length; i++) xhat[i] = x[i]! - xhat[i]!;
    return xhat;
  };
  const asSearched = rowEnergies(errorsWith(scales), grid.cols, energies);
  kernels.absmax(plain, x, grid);
  kernels.scaleFromAbsmax(plain, plain);
  const nearest = errorsWith(plain);
  const asPlain = rowEnergies(nearest, grid.cols, energies);
  const limits = rowEnergies(nearest, grid.cols);
  for (let row = 0; row < limits.length; row++) {
    if (asSearched[row]! > asPlain[row]!) scales[row] = plain[row]!;
  }
  scratch.release(mark);
  return limits;
}

/** Sums of squares of the rows of `x`, each column weighed. */
function rowEnergies(x: Float32Array, cols: number, weights?: Float64Array): Float64Array {
  const energies = new Float64Array(x.length / cols);
  for (let row = 0; row < energies.length; row++) {
    let sum = 0;
    for (let k = 0; k < cols; k++) {
      const value = x[row * cols + k]!;
      sum += value * value * (weights === undefined ? 1 : weights[k]!);
    }
    energies[row] = sum;
  }
  return energies;
}

/** Bytes of memory that the workers share in {@link gptqLayer}. */
export function gptqSharedBytes(task: QuantizeTask, compensation: Compensation): number {
  const { cols } = task.source;
  const width = rowSpaceBlockCols(task);
  if (width !== null) {
    return rowSpaceLayerBytes(task, compensation, width) + heldOutBytes(compensation) +
      layerScalesBytes(task) + SLACK_BYTES;
  }
  const group = task.convrotGroupSize;
  const hessian = 8 * hessianElements(cols, group, compensation);
  const blockSize = codeBlockSize(cols, group, compensation);
  const packed = feedsIntegers(task) ? packedBytes({ size: cols, blockSize }) : 0;
  // Inputs are let go before the factor is packed; scales may be searched before it and after.
  return hessian + Math.max(inputBytes(cols, compensation), packed + layerScalesBytes(task)) +
    heldOutBytes(compensation) + SLACK_BYTES;
}

/** Bytes of scratch that each worker takes in {@link gptqLayer}. */
export function gptqScratchBytes(task: QuantizeTask): number {
  const { rows, cols } = task.source;
  const step = quantizeGrid(task).rowStep;
  const tables = task.levels === undefined ? 0 : levelsBandBytes(task.levels, step, cols);
  const groups = (Math.min(rows, step) / Math.min(task.groupRows, step)) * (cols / task.groupCols);
  const band = step * cols * (elementBytes(task.source.dtype) + 4 + 4 + 2) + 12 * groups + tables;
  const width = rowSpaceBlockCols(task);
  if (width !== null) {
    const inputs = task.compensation!.rows;
    const most = Math.max(
      rowSpaceScratchBytes(cols, inputs, width),
      rowSpaceGuardBytes(cols, inputs),
      guardRowsBytes(cols, cols) + heldOutGuardBytes(task.compensation!),
    );
    return band + most + decodeScratchBytes(task.source, step) + 16 * cols + SLACK_BYTES;
  }
  // Inside gptqRows: reordered rows, their codes, feedback, a block column of the factor.
  const rounding = step * (5 * cols + 4 * 128) + 4 * 128 * cols + 64 * cols +
    (feedsIntegers(task) ? packedErrorsBytes(step, cols) : 0);
  const directions = 8 * (task.compensation?.directions?.values.length ?? 0);
  const factoring = 128 * cols + choleskyScratchBytes(cols) + directions;
  const guarding = guardRowsBytes(cols, cols) + heldOutGuardBytes(task.compensation!);
  return band + Math.max(rounding, guarding) + factoring + decodeScratchBytes(task.source, step) +
    SLACK_BYTES;
}

/** Room for the alignment of arrays. */
const SLACK_BYTES = 1 << 16;
