/** Which part of a weight one scale covers, by the shape of the scales. */

import { elementsOf, type MatrixSize, sameShape } from "./layer_shapes.ts";

/** The rectangle that one scale covers. */
export interface ScaleGroup {
  readonly groupRows: number;
  readonly groupCols: number;
}

/** Facts that the shape of scales is matched with. */
export interface ScaledWeight extends MatrixSize {
  /** The weight's shape without its last size. */
  readonly leading: readonly number[];
  /** `group_size` or `block_size` of the marker. */
  readonly groupSize?: unknown;
}

/** Sizes of blocks that are in use, the commonest first. */
const BLOCK_SIZES = [128, 64, 32, 256, 16, 512] as const;

/** One scale for all, or one per row: `[]`, `[1]`, `[N]`, `[N, 1]`, `[E, N, 1]`; null for other shapes. */
export function plainGroup(
  shape: readonly number[],
  { rows, cols, leading }: ScaledWeight,
): ScaleGroup | null {
  if (elementsOf(shape) === 1) {
    return { groupRows: Math.max(1, rows), groupCols: Math.max(1, cols) };
  }
  // One per expert of a bank.
  const isBank = leading.length === 2 && shape[0] === leading[0];
  if (isBank && elementsOf(shape) === leading[0] && !sameShape(shape, [rows])) {
    return { groupRows: leading[1]!, groupCols: Math.max(1, cols) };
  }
  const perRow = sameShape(shape, [rows]) || sameShape(shape, [...leading, 1]) ||
    sameShape(shape, [rows, 1]);
  return perRow ? { groupRows: 1, groupCols: Math.max(1, cols) } : null;
}

/** Square tiles `[N / b, K / b]`, or groups of the columns of a row `[N, K / b, 1]`, without a rest. */
export function tileGroup(
  shape: readonly number[],
  { rows, cols, groupSize }: ScaledWeight,
): ScaleGroup | null {
  const [a = 0, b = 0, c = 0] = shape;
  if (a === 0 || b === 0 || cols % b !== 0) return null;
  if (shape.length === 3) {
    const fits = a === rows && c === 1 && isAsked(groupSize, cols / b);
    return fits ? { groupRows: 1, groupCols: cols / b } : null;
  }
  // [1, N] is a transposed mistake, not a row of tiles.
  if (shape.length !== 2 || rows % a !== 0) return null;
  const [groupRows, groupCols] = [rows / a, cols / b];
  return groupRows === groupCols && isAsked(groupSize, groupCols) ? { groupRows, groupCols } : null;
}

/**
 * Blocks of FP8: `[N / b, K / b]` where the last may be shorter, or groups of the columns of a row,
 * `[N, K / b]` and `[N, K / b, 1]`. Of a bank `[E, N, K]`, blocks stand per expert.
 */
export function blockGroup(shape: readonly number[], weight: ScaledWeight): ScaleGroup | null {
  const { rows, cols, leading, groupSize } = weight;
  const own = shape.length > 2 && shape[shape.length - 1] === 1 ? shape.slice(0, -1) : shape;
  if (own.length < 2) return null;
  const across = own[own.length - 1]!, down = elementsOf(own.slice(0, -1));
  if (across === 0 || down === 0) return null;
  if (down === rows) {
    const size = groupSizeFor(cols, across, groupSize);
    return size === null ? null : { groupRows: 1, groupCols: size };
  }
  const height = leading[leading.length - 1] ?? rows, perExpert = own[own.length - 2]!;
  if (!sameShape(own.slice(0, -2), leading.slice(0, -1))) return null;
  const wanted = typeof groupSize === "number" ? [groupSize] : BLOCK_SIZES;
  const size = wanted.find((size) =>
    Math.ceil(height / size) === perExpert && Math.ceil(cols / size) === across
  );
  // Blocks that lap over into the next expert have no place here.
  const isWhole = (size: number) => leading.length === 1 || height % size === 0;
  if (size !== undefined) return isWhole(size) ? { groupRows: size, groupCols: size } : null;
  const exact = typeof groupSize !== "number" && height % perExpert === 0 && cols % across === 0 &&
    height / perExpert === cols / across;
  return exact ? { groupRows: height / perExpert, groupCols: cols / across } : null;
}

function groupSizeFor(cols: number, across: number, asked: unknown): number | null {
  if (typeof asked === "number") return Math.ceil(cols / asked) === across ? asked : null;
  if (cols % across === 0) return cols / across;
  return BLOCK_SIZES.find((size) => Math.ceil(cols / size) === across) ?? null;
}

/** Whether a marker's `group_size`, if it names one, is `size`. */
function isAsked(groupSize: unknown, size: number): boolean {
  return groupSize === undefined || groupSize === size;
}
