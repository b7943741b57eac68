/**
 * Rows that are to be rounded, and their columns in another order: by importance, or by blocks of channels. What
 * rounds them, `round`, sees columns in that order; grids and levels follow.
 */

import type { CountedMemory } from "../core/counted_memory.ts";
import type { Grid, LevelSearch, LevelSets } from "../backend/backend.ts";
import { type Allocator, type LinalgContext, withScratch } from "../linalg/context.ts";
import type { LdlqRows } from "../linalg/ldlq.ts";
import { matrix } from "../linalg/matrix.ts";

/** The order of the columns of rows. */
export interface ColumnOrder {
  /** K, the columns. */
  readonly size: number;
  /** Column k of what is rounded is column `order[k]` of the layer; null: they stay where they are. */
  readonly order: Int32Array | null;
}

/** The sizes that decide how much memory reordering takes. */
export interface OrderedSizes {
  readonly size: number;
  /** Whether codes may be certain levels only. */
  readonly hasLevels: boolean;
}

/** Some rows of a layer, and where their codes go. */
export interface GptqRows {
  /**
   * In: the weights in the space of the codes. Out: what rounding took from them, `w - code * scale`. f32
   * `[rows, K]`, row-major.
   */
  readonly weights: Float32Array;
  /** False: nobody needs what becomes of the weights; they may also stay. Default: true. */
  readonly errors?: boolean;
  /** Out: the codes, i8 `[rows, K]`. */
  readonly codes: Int8Array;
  /** Row of the layer that the first of these is. */
  readonly firstRow: number;
  /** The grid of the whole layer, and its scales. */
  readonly grid: Grid;
  readonly scales: Float32Array;
  /** The levels that codes may be; absent: all from -127 to 127. */
  readonly levels?: RowLevels | undefined;
}

/** How sets are chosen on the way. */
export interface SearchOnTheWay extends LevelSearch {
  /** See `BlockSearch`. */
  readonly spare: Float32Array;
}

/** The levels of rows: the set of every group, and how it is chosen when its columns are reached. */
export interface RowLevels extends LevelSets {
  /** u8 `[rows, cols / groupCols]`. */
  readonly choices: Uint8Array;
  /**
   * Chooses sets for what groups are to be rounded from, with what is fed back into them; needs columns in
   * the order of whole groups. Null: sets stay as they are.
   */
  readonly search?: SearchOnTheWay | null;
}

/**
 * Rounds rows whose columns go in another order, `chunkRows` at a time: `round` gets copies in that order, and
 * what it makes of them goes back to where it belongs.
 *
 * @param size K, the columns.
 * @param order column k of what `round` gets is column `order[k]` of the layer.
 * @throws RangeError if sizes do not fit together, or the memory is exhausted.
 */
export function roundInOrder(
  context: LinalgContext,
  rows: GptqRows,
  { size, order, chunkRows }: ColumnOrder & {
    readonly order: Int32Array;
    readonly chunkRows: number;
  },
  round: (chunk: LdlqRows) => void,
): void {
  const { weights, codes } = rows;
  const count = countRows(rows, size);
  withScratch(context, () => {
    const { memory, kernels } = context;
    const grid = gridInOrder(memory, rows, { size, order });
    const most = Math.min(count, chunkRows);
    const { chunkWeights, chunkCodes, places } = roomForOrder(memory, most, size);
    places.set(order);
    for (let start = 0; start < count; start += most) {
      const height = Math.min(most, count - start), at = start * size;
      const original = matrix(weights.subarray(at), height, size);
      const moved = matrix(chunkWeights, height, size);
      kernels.gatherColumns(moved, original, places);
      round({ ...grid, firstRow: rows.firstRow + start, weights: moved, codes: chunkCodes });
      if (rows.errors ?? true) kernels.scatterColumns(original, moved, places);
      const toCodes = matrix(codes.subarray(at), height, size);
      kernels.scatterColumns(toCodes, matrix(chunkCodes, height, size), places);
    }
  });
}

/** Returns how many rows there are. */
export function countRows({ weights, codes, grid }: GptqRows, size: number): number {
  const count = weights.length / size;
  if (grid.cols === size && codes.length === weights.length && Number.isInteger(count)) {
    return count;
  }
  throw new RangeError(
    `Cannot round rows: ${weights.length} weights and ${codes.length} codes of ${grid.cols} ` +
      `columns, the Hessian has ${size} channels`,
  );
}

/** The grid of a layer, for columns in `order`. Null: as they stand. */
export function gridInOrder(
  memory: Allocator,
  { grid, scales, levels }: GptqRows,
  { size, order }: ColumnOrder,
): Omit<LdlqRows, "weights" | "codes" | "firstRow"> {
  const groupsOf = (groupCols: number): Int32Array => {
    const groups = memory.i32(size);
    for (let k = 0; k < size; k++) {
      const column = order === null ? k : order[k]!;
      groups[k] = Math.floor(column / groupCols);
    }
    return groups;
  };
  const columnGroups = groupsOf(grid.groupCols);
  return {
    ...(levels === undefined ? {} : {
      levels: {
        choices: levels.choices,
        nearest: levels.nearest,
        across: size / levels.groupCols,
        columnSets: groupsOf(levels.groupCols),
        search: levels.search ?? null,
      },
    }),
    scales,
    scaleCols: grid.cols / grid.groupCols,
    groupRows: grid.groupRows,
    columnGroups,
    codesRowStride: size,
  };
}

/** Counts the groups of columns: of scales, and of levels. */
export function planOrder(
  memory: CountedMemory,
  { size, hasLevels }: OrderedSizes,
): void {
  memory.i32(size);
  if (hasLevels) memory.i32(size);
}

/** Room for rows in another order, and for that. */
export function roomForOrder(
  memory: Pick<Allocator, "f32" | "i8" | "i32">,
  rows: number,
  size: number,
) {
  return {
    chunkWeights: memory.f32(rows * size),
    chunkCodes: memory.i8(rows * size),
    places: memory.i32(size),
  };
}

/** Counts what {@link roundInOrder} takes besides `round`, which is counted within. */
export function planInOrder(
  memory: CountedMemory,
  { rows, chunkRows, ...sizes }: OrderedSizes & {
    readonly rows: number;
    readonly chunkRows: number;
  },
): void {
  const { size } = sizes;
  memory.within(() => {
    planOrder(memory, sizes);
    roomForOrder(memory, Math.min(rows, chunkRows), size);
  });
}
