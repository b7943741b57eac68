/**
 * The facts about all weights of a layer that are needed before its rows are rounded with compensation: the one
 * scale of a layer that has only one, and which columns will suffer most if groups of several rows clip
 * large weights. Every number is a sum over bands of rows, made by whoever has the band and added in the
 * order of the bands: the same for any number of workers.
 */

import type { Grid } from "../../backend/backend.ts";
import { shareOf } from "../../linalg/team.ts";
import { addColumnErrors } from "../../quant/column_importance.ts";
import {
  absmaxOf,
  addToBins,
  scaleFromBins,
  searchTileScales,
  TILE_BINS,
} from "../../quant/tile_scale.ts";
import { SCALE_MIN } from "../../quant/scheme.ts";
import { chunkCount, chunkRect, type Rect } from "../chunk_grid.ts";
import { quantizeGrid } from "../quantize_grid.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { PlannedMemory } from "../task_kind.ts";
import type { Scratch, TeamContext } from "./chunk_context.ts";
import { decodeRect, planDecode, rawBytes, readRect } from "./load_rect.ts";
import { planWholeScale, wholeScale } from "./stream_group.ts";

/** Whether all of the layer has one scale. */
export function hasOneScale({ source, groupRows, groupCols }: QuantizeTask): boolean {
  return groupRows === source.rows && groupCols === source.cols;
}

/** The scale groups of a band: its own, or the part of the only one that lies in it. */
export function bandGrid(task: QuantizeTask, { rows, cols }: Rect): Grid {
  const groupRows = hasOneScale(task) ? rows : task.groupRows;
  return { rows, cols, groupRows, groupCols: task.groupCols };
}

/** All workers make one each, for the same layer, and call the same methods in the same order. */
export class LayerScales {
  readonly #team: TeamContext;
  readonly #task: QuantizeTask;
  readonly #bands: number;

  constructor(team: TeamContext, task: QuantizeTask) {
    this.#team = team;
    this.#task = task;
    this.#bands = chunkCount(quantizeGrid(task));
  }

  /**
   * Returns how much error each column is expected to have, f64 `[K]`: see `quant/column_importance.ts`.
   *
   * @param energies f64 `[K]`: the diagonal of the Hessian.
   */
  importance(energies: Float64Array): Float64Array {
    const { cols } = this.#task.source;
    const one = hasOneScale(this.#task) ? this.weighted(energies) : null;
    const errors = this.#overBands(cols, (out, rect, x) => {
      const grid = bandGrid(this.#task, rect);
      const scales = new Float32Array((grid.rows / grid.groupRows) * (cols / grid.groupCols));
      if (one !== null) scales[0] = one;
      else searchTileScales(scales, x, grid, energies);
      addColumnErrors(out, x, grid, scales);
    }).reduce((sum, part) => sum.map((error, c) => error + part[c]!), new Float64Array(cols));
    return errors.map((error, c) => error * energies[c]!);
  }

  /**
   * Returns the scale of a layer that has one, of least weighted error.
   *
   * @param energies f64 `[K]`: what an error in each column weighs.
   */
  weighted(energies: Float64Array): number {
    const absmax = Math.max(
      ...this.#overBands(1, (out, _, x) => void (out[0] = absmaxOf(x))).map(([x]) => x!),
    );
    const { rows, cols } = this.#task.source;
    const bins = this.#overBands(TILE_BINS, (out, _, x) => {
      for (let at = 0; at < x.length; at += cols) {
        addToBins(out, x.subarray(at, at + cols), energies, absmax);
      }
    }).reduce((sum, part) => sum.map((x, bin) => x + part[bin]!), new Float64Array(TILE_BINS));
    const energy = rows * energies.reduce((sum, energy) => sum + energy, 0);
    return Math.fround(Math.max(SCALE_MIN, scaleFromBins(bins, absmax, energy) ?? SCALE_MIN));
  }

  /** Returns the scale of plain rounding for a layer that has one; 0 if it holds NaN or infinity. */
  plain(task: QuantizeTask): number {
    const { linalg, shared } = this.#team;
    const { rows, cols } = task.source;
    const mark = shared.mark();
    const found = shared.f32(1);
    if (linalg.team.index === 0) {
      found[0] = wholeScale(this.#team.contextOf(0), task, { row: 0, col: 0, rows, cols }) ?? 0;
    }
    linalg.team.barrier();
    const [scale = 0] = found;
    linalg.team.barrier(); // everybody has it before its place is given to something else
    shared.release(mark);
    return scale;
  }

  /**
   * Calls `fill` once per band with `size` zeros and the weights of the band in original space, whoever of
   * the team; returns, to everybody, a copy of what was filled in, in the order of the bands.
   */
  #overBands(
    size: number,
    fill: (out: Float64Array, rect: Rect, x: Float32Array) => void,
  ): Float64Array[] {
    const { linalg, shared, scratch } = this.#team;
    const task = this.#task;
    const sharedMark = shared.mark(), mark = scratch.mark();
    const results = shared.f64(size * this.#bands);
    const grid = quantizeGrid(task);
    const { raw, values } = roomForBand(scratch, task);
    const own = shareOf(linalg.team, 0, this.#bands);
    for (let band = own.start; band < own.end; band++) {
      const rect = chunkRect(grid, band);
      const x = values.subarray(0, rect.rows * rect.cols);
      const bytes = raw.subarray(0, rawBytes(task.source, rect));
      const context = this.#team.contextOf(band);
      readRect(context, bytes, task.source, rect);
      decodeRect(context, x, bytes, task.source, rect);
      const out = results.subarray(band * size, (band + 1) * size);
      out.fill(0);
      fill(out, rect, x);
    }
    linalg.team.barrier();
    const copies = Array.from(
      { length: this.#bands },
      (_, band) => results.slice(band * size, (band + 1) * size),
    );
    linalg.team.barrier(); // everybody has a copy before the memory is used again
    scratch.release(mark);
    shared.release(sharedMark);
    return copies;
  }
}

/** The weights of a band. */
function roomForBand(scratch: Pick<Scratch, "u8" | "f32">, task: QuantizeTask) {
  const grid = quantizeGrid(task);
  return {
    raw: scratch.u8(rawBytes(task.source, chunkRect(grid, 0))),
    values: scratch.f32(grid.rowStep * grid.cols),
  };
}

/** Counts what {@link LayerScales.plain} takes. */
export function planPlainScale({ own, shared }: PlannedMemory, task: QuantizeTask): void {
  shared.within(() => {
    shared.f32(1);
    planWholeScale(own, task);
  });
}

/** Counts what {@link LayerScales.weighted} takes. */
export function planWeightedScale(memory: PlannedMemory, task: QuantizeTask): void {
  planOverBands(memory, task, TILE_BINS);
}

/** Counts what {@link LayerScales.importance} takes. */
export function planImportance(memory: PlannedMemory, task: QuantizeTask): void {
  if (hasOneScale(task)) planWeightedScale(memory, task);
  planOverBands(memory, task, task.source.cols);
}

function planOverBands({ own, shared }: PlannedMemory, task: QuantizeTask, size: number): void {
  const grid = quantizeGrid(task);
  shared.within(() => shared.f64(size * chunkCount(grid)));
  own.within(() => {
    roomForBand(own, task);
    planDecode(own, task.source, chunkRect(grid, 0));
  });
}
