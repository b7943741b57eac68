/**
 * Quantizes a layer with error compensation, by all workers together: the Hessian from the calibration
 * data, rotated if the codes are and factored by the team; then everybody takes bands of rows.
 *
 * Memory. All share the Hessian, 8 K² bytes (8 K g for channel statistics, g the rotation group), which
 * its factor replaces, and ACTIVATION_ROWS rows of calibration inputs; each worker has a band of rows.
 * `planGptqLayer` counts it.
 */

import { compensatedNote, feedsIntegers, unitColsOf } from "./compensated_task.ts";
import type { CountedMemory } from "../../core/counted_memory.ts";
import { groupCount } from "../../backend/backend.ts";
import type { LinalgContext } from "../../linalg/context.ts";
import type { MatrixF32 } from "../../linalg/matrix.ts";
import { diagonalOf, type Hessian, hessianBlock, shrinkToDiagonal } from "../../linalg/hessian.ts";
import { residualEnergies, searchCompensatedScales } from "../../quant/compensated_scale.ts";
import {
  type GptqFactor,
  gptqRows,
  type GptqSizes,
  planGptq,
  planGptqRows,
  prepareGptq,
} from "../../quant/gptq.ts";
import { planRowObjectives } from "../../quant/row_objectives.ts";
import {
  planRowSpaceObjectives,
  planRowSpaceRounding,
  roundInRowSpace,
} from "../../quant/row_space.ts";
import { quantizeGrid } from "../quantize_grid.ts";
import { chunkRect, type Rect } from "../chunk_grid.ts";
import type { PlannedMemory } from "../task_kind.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { Compensation } from "../../calibration/compensation.ts";
import { bytesOf } from "../../core/bytes.ts";
import { SLOT } from "../layer_statistics.ts";
import { type ChunkContext, type Scratch, takeNumbers, type TeamContext } from "./chunk_context.ts";
import {
  denseMeasures,
  guardRows,
  largestShare,
  planGuard,
  type RowMeasures,
  rowSpaceMeasures,
} from "./guard_rows.ts";
import { guardByHeldOut, loadHeldOut, planHeldOut, planHeldOutGuard } from "./held_out_guard.ts";
import { planLevelsBand, quantizeLevelsBand } from "./gptq_levels_band.ts";
import { holdScales, planHoldScales, rowEnergies } from "./hold_scales.ts";
import { decodeRect, planDecode, rawBytes, readRect } from "./load_rect.ts";
import { codeBlockSize, planRotatedHessian, rotatedHessian } from "./load_hessian.ts";
import { addErrors, reportNonFinite, writeCodes } from "./quantize_chunk.ts";
import { dropFactor, type PlacedRows, placeFactor, roundRows } from "./round_rows.ts";
import type { FittedColumns, FittedInputs, FittedRows } from "./fitted_inputs.ts";
import { integerHessian, planIntegerHessian, standsIntegers } from "./integer_moments.ts";
import { planKeptInputs } from "./kept_inputs.ts";
import { rowSpaceBlockCols } from "./row_space_choice.ts";
import { planRowSpaceLayer, rowSpaceLayer } from "./row_space_layer.ts";
import {
  bandGrid,
  hasOneScale,
  LayerScales,
  planImportance,
  planPlainScale,
  planWeightedScale,
} from "./layer_scales.ts";

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
  const fitted = team.kept.take<FittedInputs>(team, {
    task,
    compensation,
    make: () =>
      blockCols === null
        ? fitColumns(team, task, compensation, scales)
        : fitRows(team, task, compensation, blockCols),
  });
  const { drop, ...layer } = "factor" in fitted
    ? denseLayer(team, task, compensation, { scales, fitted })
    : layerInRowSpace(team, task, compensation, { scales, fitted });
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

/** Factors the K x K Hessian of a layer. */
function fitColumns(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
  scales: LayerScales,
): FittedColumns {
  const { linalg } = team;
  const heldOut = loadHeldOut(team, task, compensation);
  const hessian = standsIntegers(task, compensation)
    ? integerHessian(team, task, compensation)
    : rotatedHessian(team, task, compensation);
  if (compensation.pairs !== 1) shrinkPairs(linalg, hessian, compensation.pairs);
  const guard = compensation.guarded ? diagonalOf(hessian) : null;
  // If large weights are clipped, their columns should come early; rotation leaves few of them.
  const weighted = weighsScales(task, compensation, hessian.blockSize);
  const importance = weighted && ordersByImportance(task, compensation)
    ? scales.importance(diagonalOf(hessian))
    : null;
  const damping = guard !== null ? GUARDED_DAMPING : compensation.damping;
  const factor = prepareGptq(linalg, hessian, {
    ...compensation,
    damping,
    importance,
    unitCols: unitColsOf(task),
    turbo: feedsIntegers(task) ? team.shared : null,
  });
  return { heldOut, factor, guard };
}

/** A layer that is rounded by its factored K x K Hessian. */
function denseLayer(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
  { scales, fitted: { heldOut, factor, guard } }: {
    readonly scales: LayerScales;
    readonly fitted: FittedColumns;
  },
): CompensatedLayer & { drop(): void } {
  const { fallback } = factor.report;
  if (team.linalg.team.index === 0) {
    team.note(compensatedNote(guard !== null ? "guardedQuip" : "gptq", compensation, factor));
  }
  const isPlain = fallback !== null || !weighsScales(task, compensation, factor.blockSize);
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

/** Whether scales are those of least weighted error. */
function weighsScales(
  { convrotGroupSize }: QuantizeTask,
  { weightedScales }: Compensation,
  blockSize: number,
): boolean {
  return weightedScales && convrotGroupSize === null && blockSize > 1;
}

/** Whether columns are rounded in the order of the error that they are expected to have. */
function ordersByImportance({ groupRows }: QuantizeTask, { actOrder }: Compensation): boolean {
  return actOrder && groupRows > 1;
}

/** Factors the calibration rows of a layer. */
function fitRows(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
  blockCols: number,
): FittedRows {
  const heldOut = loadHeldOut(team, task, compensation);
  return { heldOut, inRowSpace: rowSpaceLayer(team, task, compensation, blockCols) };
}

/** A layer that is rounded in the space of its calibration rows. */
function layerInRowSpace(
  team: TeamContext,
  task: QuantizeTask,
  compensation: Compensation,
  { scales, fitted: { heldOut, inRowSpace: found } }: {
    readonly scales: LayerScales;
    readonly fitted: FittedRows;
  },
): CompensatedLayer & { drop(): void } {
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
    team.note(compensatedNote("gptq", compensation, made, { inRowSpace: true }));
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

/** Makes pairs of channels count less. Ends in a barrier. */
function shrinkPairs(linalg: LinalgContext, hessian: Hessian, factor: number): void {
  for (let index = 0; index < hessian.size / hessian.blockSize; index++) {
    shrinkToDiagonal(linalg, hessianBlock(hessian, index), factor);
  }
}

/** Facts of a layer that all workers share before the bands are taken. */
interface CompensatedLayer {
  readonly task: QuantizeTask;
  /** Rounds rows, as `gptqRows` does. `weights` become errors if `errors` is true, else they may. */
  round(context: ChunkContext, linalg: LinalgContext, rows: PlacedRows): void;
  /** How the errors of rows are measured; null: all are rounded to nearest, and nothing is to be held. */
  measures(context: ChunkContext, linalg: LinalgContext): RowMeasures | null;
  /** Inputs that nothing was fitted to, f32 `[K, inputs]`; null: none, or all rows are rounded to nearest. */
  readonly heldOut: MatrixF32 | null;
  /** The scale of the whole layer, if there is only one. */
  readonly oneScale: number | null;
  /** By what scales are those of least error after compensation; null: they are not. */
  readonly weightedBy: GptqFactor | null;
  /** Whether rounding to nearest searches its scales. */
  readonly plainSearch: boolean;
  /** See {@link largestShare}. */
  readonly share: number;
  /**
   * Energies of the input channels, f64 `[K]`, if rows are to lose to plain rounding neither in the
   * weight error nor in that of the outputs; null: they may.
   */
  readonly guard: Float64Array | null;
}

/** @param hasPlain whether the scales of plain rounding are kept beside others. */
function roomForBand(
  scratch: Scratch,
  task: QuantizeTask,
  rect: Rect,
  { hasPlain }: { readonly hasPlain: boolean },
) {
  const count = rect.rows * rect.cols, groups = groupCount(bandGrid(task, rect));
  return {
    raw: scratch.u8(rawBytes(task.source, rect)),
    x: scratch.f32(count),
    xhat: scratch.f32(count),
    codes: scratch.i8(count),
    scales: scratch.f32(groups),
    plain: hasPlain ? scratch.f32(groups) : null,
    stats: takeNumbers({ scratch }),
  };
}

/** Reads, rounds and writes the rows of `rect`: whole groups, or a part of the only one. */
function quantizeBand(
  context: ChunkContext,
  linalg: LinalgContext,
  layer: CompensatedLayer,
  rect: Rect,
): void {
  const { task, oneScale, weightedBy, plainSearch, guard, share } = layer;
  const { scratch, kernels } = context;
  const { cols } = task.source;
  const grid = bandGrid(task, rect);
  const mark = scratch.mark();
  const hasPlain = weightedBy !== null && oneScale === null;
  const room = roomForBand(scratch, task, rect, { hasPlain });
  const { raw, x, xhat, codes, scales, stats } = room, plain = room.plain ?? scales;
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
    const nearest = new Set<number>();
    if (limits !== null) {
      const moved = rowEnergies(x, cols);
      for (let row = 0; row < rect.rows; row++) {
        if (moved[row]! <= limits[row]!) continue;
        roundRow(kernels, row, { weights: xhat, codes, scales, cols });
        nearest.add(row);
      }
    }
    const guarded = { weights: xhat, codes, scales, plain, grid, share };
    const measures = layer.measures(context, linalg), { heldOut } = layer;
    const lost = measures === null ? [] : guardRows(context, measures, guarded);
    for (const row of lost) nearest.add(row);
    const worse = heldOut === null ? [] : guardByHeldOut(context, linalg, heldOut, guarded);
    for (const row of worse) nearest.add(row);
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

/** Rounds one row to nearest. */
function roundRow(
  kernels: ChunkContext["kernels"],
  row: number,
  { weights, codes, scales, cols }: {
    readonly weights: Float32Array;
    readonly codes: Int8Array;
    readonly scales: Float32Array;
    readonly cols: number;
  },
): void {
  const first = row * cols, end = first + cols;
  const grid = { rows: 1, cols, groupRows: 1, groupCols: cols };
  const scale = scales.subarray(row, row + 1);
  kernels.quantize(codes.subarray(first, end), weights.subarray(first, end), scale, grid);
}

/** Counts what {@link gptqLayer} takes. */
export function planGptqLayer(
  memory: PlannedMemory,
  task: QuantizeTask,
  compensation: Compensation,
): void {
  const { own } = memory, { cols } = task.source, blockCols = rowSpaceBlockCols(task);
  planKeptInputs(own);
  planHeldOut(memory, compensation);
  if (blockCols !== null) {
    planRowSpaceLayer(memory, task, compensation, blockCols);
    if (hasOneScale(task)) planPlainScale(memory, task);
    const hasLevels = task.levels !== undefined;
    const sizes = { cols, terms: compensation.rows, blockCols, hasLevels };
    planBand(own, task, {
      isWeighted: false,
      round: (rows) => planRowSpaceRounding(own, rows, sizes),
      measure: (rows) => planRowSpaceObjectives(own, rows, sizes),
    });
    return;
  }
  const sizes = gptqSizes(task, compensation);
  if (standsIntegers(task, compensation)) planIntegerHessian(memory, task, compensation);
  else planRotatedHessian(memory, task, compensation);
  const isWeighted = weighsScales(task, compensation, sizes.blockSize);
  if (isWeighted && ordersByImportance(task, compensation)) planImportance(memory, task);
  planGptq(own, memory.shared, sizes);
  if (hasOneScale(task)) {
    planPlainScale(memory, task);
    if (isWeighted) planWeightedScale(memory, task);
  }
  planBand(own, task, {
    isWeighted,
    round: (rows) => planGptqRows(own, rows, sizes),
    measure: (rows) => planRowObjectives(own, rows, sizes),
  });
}

/** Sizes that decide how much memory the factor of a layer takes. */
function gptqSizes(task: QuantizeTask, compensation: Compensation): GptqSizes {
  const { source: { cols: size }, convrotGroupSize } = task;
  const blockSize = codeBlockSize(size, convrotGroupSize, compensation);
  return {
    size,
    blockSize,
    actOrder: compensation.actOrder,
    turbo: feedsIntegers(task),
    hasLevels: task.levels !== undefined,
  };
}

/** @param round counts rounding rows. @param measure counts measuring errors of rows. */
function planBand(
  memory: CountedMemory,
  task: QuantizeTask,
  { isWeighted, round, measure }: {
    readonly isWeighted: boolean;
    readonly round: (rows: number) => void;
    readonly measure: (rows: number) => void;
  },
): void {
  const rect = chunkRect(quantizeGrid(task), 0), grid = bandGrid(task, rect);
  if (task.levels !== undefined) {
    planLevelsBand(memory, { ...task, levels: task.levels }, rect, { round, measure });
    return;
  }
  roomForBand(memory, task, rect, { hasPlain: isWeighted && !hasOneScale(task) });
  planDecode(memory, task.source, rect);
  if (task.compensation?.guarded) planHoldScales(memory, rect, grid);
  round(rect.rows);
  planGuard(memory, rect, measure);
  if (task.compensation !== null) planHeldOutGuard(memory, task.compensation, rect);
}
