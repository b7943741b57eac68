/**
 * The steps of learned rounding on a device (`descendRows`): codes of a tile are moved to the other side of
 * their weights if that lowers a loss. Matrices may lie within larger ones.
 */

import type { Batch, Slot } from "./batch.ts";
import type { GpuMatrix } from "./record_matrix.ts";
import * as shaders from "./shaders.ts";

/** Columns that a workgroup decides on; wider tiles are cut. */
const TILE_COLS = 64;

/** f32 that a row has in a report before the moves: moves, gain, cost, and one that is not used. */
export const REPORT_SLOTS = 4;

/** A row-major matrix on the device; of codes, place and distance are in bytes. */
export type RowsSlot = Pick<GpuMatrix, "slot" | "start" | "rowStride">;

/** Operands of {@link recordDescendRows}: see `DescendRows` of `linalg_kernels.ts`. */
export interface DescendSlots {
  readonly rows: number;
  readonly cols: number;
  readonly width: number;
  /** In and out: i8, four in a word. */
  readonly codes: RowsSlot;
  /** In and out: f32 `[rows, cols]`. */
  readonly errors: RowsSlot;
  /** In and out: f32 `[rows, width]`. */
  readonly gradient: RowsSlot;
  /** Column of `gradient` and `panel` that belongs to the first column of the tile. */
  readonly offset: number;
  /** f32 `[cols, width]`. */
  readonly panel: RowsSlot;
  /** f32 `[rows]`, from `weightsStart` on. */
  readonly weights: Slot;
  readonly weightsStart: number;
  /** For a loss that looks at all rows; null: it does not. */
  readonly sums: DescendSums | null;
  /** f32, {@link descentReportBytes}: per row {@link REPORT_SLOTS} which grow; what follows is scratch. */
  readonly report: Slot;
  /** f32, those of the whole layer. */
  readonly scales: Slot;
  readonly scaleCols: number;
  readonly groupRows: number;
  readonly firstRow: number;
  /** i32 `[cols]`, from `groupsStart` on. */
  readonly columnGroups: Slot;
  readonly groupsStart: number;
  readonly penalty: number;
}

/** Sums of moves. */
export interface DescendSums {
  readonly rank: number;
  /** f32 `[rows, rank]`. */
  readonly factors: RowsSlot;
  /** In and out: f32 `[cols, rank]`. */
  readonly into: RowsSlot;
}

/** Bytes of the report of a tile. */
export function descentReportBytes(rows: number, cols: number): number {
  return 4 * rows * (REPORT_SLOTS + Math.min(cols, TILE_COLS));
}

/** Records `descendRows`. Gives the codes, errors, gradient and sums that one pass gives, in the same order. */
export function recordDescendRows(batch: Batch, args: DescendSlots): void {
  const { rows, width, codes, errors, gradient, panel, sums } = args;
  for (let first = 0; first < args.cols; first += TILE_COLS) {
    const cols = Math.min(TILE_COLS, args.cols - first);
    const slots = [
      ...[codes.slot, errors.slot, gradient.slot, args.report],
      ...[panel.slot, args.weights, args.scales, args.columnGroups],
    ];
    const { weightsStart, firstRow, groupRows, scaleCols, penalty } = args;
    const params = {
      ...{ rows, cols, width, offset: args.offset + first },
      ...{ codesStart: codes.start + first, codesRow: codes.rowStride },
      ...{ errorsStart: errors.start + first, errorsRow: errors.rowStride },
      ...{ gradientStart: gradient.start, gradientRow: gradient.rowStride },
      ...{ panelStart: panel.start + first * panel.rowStride, panelRow: panel.rowStride },
      ...{ weightsStart, groupsStart: args.groupsStart + first, firstRow, groupRows, scaleCols },
      ...{ penalty, zero: 0 },
    };
    batch.dispatch(shaders.descendRows, slots, params, rows);
    if (sums !== null && sums.rank > 0) {
      recordSums(batch, sums, { rows, first, cols, report: args.report });
    }
  }
}

/** Records what a tile, whose moves are in the report, adds to sums. */
function recordSums(
  batch: Batch,
  { rank, factors, into }: DescendSums,
  { rows, first, cols, report }: { rows: number; first: number; cols: number; report: Slot },
): void {
  const params = {
    ...{ rows, cols, rank, zero: 0 },
    ...{ sumsStart: into.start + first * into.rowStride, sumsRow: into.rowStride },
    ...{ factorsStart: factors.start, factorsRow: factors.rowStride },
  };
  const workgroups = cols * Math.ceil(rank / 64);
  batch.dispatch(shaders.descendSums, [into.slot, factors.slot, report], params, workgroups);
}

/** Adds the rows of a report to `totals`: moves, and what they change the loss and the error by. */
export function addDescentReport(totals: Float64Array, report: Float32Array, rows: number): void {
  for (let at = 0; at < rows * REPORT_SLOTS; at += REPORT_SLOTS) {
    for (let k = 0; k < 3; k++) totals[k] = totals[k]! + report[at + k]!;
  }
}
