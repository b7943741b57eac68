/** How the layers that are quantized are cut into chunks. */

import { SEGMENT_ELEMENTS } from "../plan/segment_elements.ts";
import {
  alignedRowGrid,
  CHUNK_ELEMENTS,
  type ChunkGrid,
  lcm,
  rowGrid,
  wholeRowGrid,
} from "./chunk_grid.ts";
import { isTeamTask, type QuantizeTask } from "./tasks.ts";

/** Rows of a compensated layer that are rounded in one go: whole scale groups, about 4 MiB as f32. */
const BAND_ROWS = 256, BAND_ELEMENTS = 1 << 22;

/** The same on a GPU, which a few hundred rows do not fill. */
const GPU_BAND_ROWS = 1024;

function teamGrid(task: QuantizeTask): ChunkGrid {
  const { rows, cols } = task.source;
  const unit = task.groupRows === rows ? 1 : task.groupRows;
  // Every band of learned codes is searched separately: other bands, other codes.
  const isLarge = task.onGpu !== undefined && task.learned === undefined;
  const most = isLarge ? GPU_BAND_ROWS : BAND_ROWS;
  const bands = Math.floor(Math.min(most, BAND_ELEMENTS / Math.max(1, cols)) / unit);
  const rowStep = Math.min(rows, Math.max(1, bands) * unit);
  return { rows, cols, rowStep, colStep: cols, streamed: false };
}

/** Returns how a layer is cut: into whole scale groups, or one group that is streamed. */
export function quantizeGrid(task: QuantizeTask): ChunkGrid {
  const { rows, cols } = task.source;
  const { groupRows, groupCols } = task;
  const elements = task.onGpu?.chunkElements ?? CHUNK_ELEMENTS;
  if (isTeamTask(task)) return teamGrid(task);
  if (task.learned !== undefined) {
    return { rows, cols, rowStep: rows, colStep: cols, streamed: false };
  }
  if (task.floats !== undefined) {
    return { rows, cols, rowStep: rows, colStep: cols, streamed: true };
  }
  const isOneScale = groupRows === rows && groupCols === cols && rows > 1;
  // Rows are packed as a whole.
  if (task.levels !== undefined) return wholeRowGrid(task.source, task.source, elements);
  if (task.source.transform !== undefined && !isOneScale) {
    return { rows, cols, rowStep: rows, colStep: cols, streamed: false }; // decoded as a whole
  }
  if (isOneScale) {
    return { rows, cols, rowStep: rows, colStep: cols, streamed: true };
  }
  if (groupRows === 1 && cols > elements && groupCols === cols) {
    return { rows, cols, rowStep: 1, colStep: cols, streamed: true };
  }
  if (groupRows === 1) {
    const grid = rowGrid(rows, cols, elements);
    if (grid.colStep === cols) return grid;
    const rotations = lcm(task.convrotGroupSize ?? 1, task.source.convrotGroupSize ?? 1);
    const unit = lcm(groupCols, rotations);
    return { ...grid, colStep: Math.max(unit, Math.floor(grid.colStep / unit) * unit) };
  }
  const tiles = Math.max(1, Math.floor(elements / (groupRows * groupCols)));
  // The rows of a LoRA's change are computed whole, those of packed codes are read whole.
  const { deltas, packed, convrotGroupSize: stored } = task.source;
  const isWhole = deltas !== undefined || packed !== undefined || stored !== null;
  const colStep = isWhole ? cols : Math.min(cols, tiles * groupCols);
  const bands = colStep === cols ? Math.max(1, Math.floor(elements / (groupRows * cols))) : 1;
  return { rows, cols, rowStep: Math.min(rows, bands * groupRows), colStep, streamed: false };
}

/** The segments of a streamed group: whole rows, or parts of a row of whole rotation groups. */
export function segmentGrid(task: QuantizeTask): ChunkGrid {
  return alignedRowGrid([task.source, task], SEGMENT_ELEMENTS);
}
