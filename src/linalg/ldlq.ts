/**
 * LDLQ: rounds the rows of W to a given grid so that tr((W - Ŵ) H (W - Ŵ)ᵀ) is small, by feeding the
 * error of every column, once rounded, into those still to come. The same as GPTQ (Frantar et al., 2022)
 * in another order of operations (Chee et al., QuIP, 2023): with H = L·Lᵀ and L̃ = L·diag(L)⁻¹,
 *
 *     code[:, j] = round((W[:, j] + E[:, j+1:] · L̃[j+1:, j]) / scale),   E = W - code * scale
 *
 * from the last column to the first. One factorisation, no inverse. If H is diagonal L̃ is the identity
 * and this is rounding to nearest.
 *
 * Columns go in blocks of {@link LDLQ_BLOCK}: what all blocks to the right feed back is one product of E
 * with a block column of L̃, within a block it is done column by column (`ldlqBlock`). Every column is fed
 * the errors of all columns after it, so that blocking changes nothing but the order of additions in f32.
 *
 * Memory. Only one block column of L is needed at a time, from right to left ({@link FactorColumns}): it
 * may be a view of the whole factor, 8 n² bytes, or be read from a file. Besides it, for `rows` rows at a
 * time of n columns, this takes
 *
 *     rows * (4 n + n + 4 * LDLQ_BLOCK) + 4 n * LDLQ_BLOCK   bytes
 *
 * for weights that become errors, codes, feedback, and the block column of L̃. With a
 * {@link PackedFactor} products are made of integers, and errors packed for them take the place of the block column:
 * some rows * 2 n bytes. Rows are independent: chunks and workers
 * may split them as they like, with the same bits.
 */

import type { CountedMemory } from "../core/counted_memory.ts";
import { type Allocator, type LinalgContext, withScratch } from "./context.ts";
import type { BlockLevels, LdlqBlock, LinalgKernels } from "./linalg_kernels.ts";
import { block, matrix, type MatrixF32, type MatrixF64 } from "./matrix.ts";
import {
  feedBackInto,
  LDLQ_BLOCK,
  packColumns,
  type PackedFactor,
  panelOf,
  roomForErrors,
} from "./packed_factor.ts";

export { LDLQ_BLOCK };

/** A Cholesky factor, given by block columns. */
export interface FactorColumns {
  /** Order of the matrix. */
  readonly size: number;
  /**
   * Returns rows `first .. size` of columns `first .. first + width` of L. Called from right to left; the
   * view is used until the next call.
   */
  column(first: number, width: number): MatrixF64;
}

/** The factor that the lower triangle of `l` is. */
export function wholeFactor(l: MatrixF64): FactorColumns {
  return {
    size: l.rows,
    column: (first, width) => block(l, first, first, l.rows - first, width),
  };
}

/** Some rows of a layer. */
export interface LdlqRows {
  /** In: the weights, columns in the order of the factor. Out: `w - code * scale`. f32 `[rows, n]`. */
  readonly weights: MatrixF32;
  /** Out: the codes, rows `codesRowStride` apart. */
  readonly codes: Int8Array;
  readonly codesRowStride: number;
  /** All scales of the layer, f32 `[row groups, scaleCols]`. */
  readonly scales: Float32Array;
  readonly scaleCols: number;
  /** Rows of the layer that share a scale. */
  readonly groupRows: number;
  /** Row of the layer that the first of these is. */
  readonly firstRow: number;
  /** For each column, which of the `scaleCols` scales it has. In the order of the factor. */
  readonly columnGroups: Int32Array;
  /** The levels that codes may be, columns in the order of the factor; absent: all from -127 to 127. */
  readonly levels?: BlockLevels | undefined;
}

/** Rounds columns `first .. first + width` of `layer`: `args` is what belongs to them alone. */
export function roundColumns(
  kernels: LinalgKernels,
  layer: LdlqRows,
  { first, width, ...args }:
    & Pick<LdlqBlock, "feedback" | "panel">
    & { readonly first: number; readonly width: number },
): void {
  const { weights, codes, columnGroups, levels } = layer;
  const columns: LdlqBlock = {
    ...layer,
    ...args,
    codes: codes.subarray(first),
    weights: block(weights, 0, first, weights.rows, width),
    columnGroups: columnGroups.subarray(first, first + width),
  };
  if (levels === undefined) return kernels.ldlqBlock(columns);
  const columnSets = levels.columnSets.subarray(first, first + width);
  kernels.ldlqLevels({ ...columns, levels: { ...levels, columnSets } });
}

/** Rows of a product that is made in tiles. */
function linesOf(rows: number): number {
  return 4 * Math.ceil(rows / 4);
}

/** Memory to round `rows` rows of `n` columns; `errors`, of columns already rounded, if they are packed. */
function roomFor(
  memory: Pick<Allocator, "f32" | "f64" | "i32">,
  n: number,
  rows: number,
  isPacked: boolean,
) {
  return {
    fedBack: memory.f32(linesOf(rows) * LDLQ_BLOCK),
    panelData: memory.f32(isPacked ? 0 : n * LDLQ_BLOCK),
    diagonalData: memory.f64(isPacked ? 0 : LDLQ_BLOCK),
    errors: isPacked ? roomForErrors(memory, rows, n) : null,
  };
}

/** Counts what {@link ldlq} takes for `rows` rows of `n` columns. */
export function planLdlq(
  memory: CountedMemory,
  { n, rows, isPacked }: { readonly n: number; readonly rows: number; readonly isPacked: boolean },
): void {
  memory.within(() => roomFor(memory, n, rows, isPacked));
}

/** Counts what {@link roundRowsToNearest} takes for `rows` rows. */
export function planRowsToNearest(memory: CountedMemory, rows: number): void {
  memory.within(() => roomToNearest(memory, rows));
}

function roomToNearest(memory: Pick<Allocator, "f32">, rows: number) {
  return {
    identityData: memory.f32(IDENTITY_BLOCK ** 2),
    feedbackData: memory.f32(rows * IDENTITY_BLOCK),
  };
}

/**
 * Rounds some rows. Takes scratch from the context; does not use its team: members call it on rows of
 * their own.
 *
 * @param packed the same factor in integers, to feed errors back with; null: they are fed back in f32.
 * @throws RangeError if sizes do not fit together, or the memory is exhausted.
 */
export function ldlq(
  context: LinalgContext,
  factor: FactorColumns,
  layer: LdlqRows,
  packed: PackedFactor | null = null,
): void {
  const { kernels, memory } = context;
  const { weights } = layer;
  const n = factor.size, rows = weights.rows;
  if (weights.cols !== n || layer.columnGroups.length !== n) {
    throw new RangeError(
      `Cannot round rows: weights have ${weights.cols} columns, columnGroups ` +
        `${layer.columnGroups.length}, the factor ${n}`,
    );
  }
  if (n === 0 || rows === 0) return;
  withScratch(context, () => {
    const count = Math.ceil(n / LDLQ_BLOCK), lines = linesOf(rows);
    const { fedBack, panelData, diagonalData, errors } = roomFor(memory, n, rows, packed !== null);
    const feedback = matrix(fedBack, lines, LDLQ_BLOCK);
    for (let index = count - 1; index >= 0; index--) {
      const first = index * LDLQ_BLOCK;
      const width = Math.min(LDLQ_BLOCK, n - first), later = n - first - width;
      const panel = packed !== null
        ? panelOf(packed, index)
        : unitColumns(kernels, factor.column(first, width), { panelData, diagonalData });
      const fed = block(feedback, 0, 0, rows, width);
      if (packed === null) {
        kernels.gemmF32(
          fed,
          block(weights, 0, first + width, rows, later),
          block(panel, width, 0, later, width),
          "set",
        );
      } else feedBackInto(kernels, packed, errors!, { c: feedback, index });
      roundColumns(kernels, layer, {
        first,
        width,
        feedback: fed,
        panel: block(panel, 0, 0, width, width),
      });
      if (packed !== null) {
        const own = block(weights, 0, first, rows, width);
        packColumns(kernels, packed, errors!, { first, e: own });
      }
    }
  });
}

/** Returns a block column of L̃, from one of L. */
function unitColumns(
  kernels: LinalgKernels,
  column: MatrixF64,
  { panelData, diagonalData }: {
    readonly panelData: Float32Array;
    readonly diagonalData: Float64Array;
  },
): MatrixF32 {
  const { rows, cols } = column, diagonal = diagonalData.subarray(0, cols);
  for (let j = 0; j < cols; j++) diagonal[j] = column.data[j * column.rowStride + j]!;
  const panel = matrix(panelData, rows, cols, LDLQ_BLOCK);
  kernels.unitLowerPanel(panel, column, diagonal);
  return panel;
}

/**
 * Rounds some rows to nearest: what {@link ldlq} does if the Hessian is diagonal, without the work.
 * `weights` become errors here too.
 */
export function roundRowsToNearest(context: LinalgContext, layer: LdlqRows): void {
  const { kernels, memory } = context;
  const { weights, levels } = layer;
  const n = weights.cols, rows = weights.rows;
  if (n === 0 || rows === 0) return;
  // Sets stay as they are: they were chosen for the same weights.
  const own = levels === undefined ? layer : { ...layer, levels: { ...levels, search: null } };
  withScratch(context, () => {
    const width = Math.min(n, IDENTITY_BLOCK);
    const { identityData, feedbackData } = roomToNearest(memory, rows);
    const identity = matrix(identityData, width, width, IDENTITY_BLOCK);
    identity.data.fill(0);
    for (let j = 0; j < width; j++) identity.data[j * (IDENTITY_BLOCK + 1)] = 1;
    const feedback = matrix(feedbackData, rows, width, IDENTITY_BLOCK);
    for (let first = 0; first < n; first += IDENTITY_BLOCK) {
      const cols = Math.min(IDENTITY_BLOCK, n - first);
      feedback.data.fill(0);
      roundColumns(kernels, own, {
        first,
        width: cols,
        feedback: block(feedback, 0, 0, rows, cols),
        panel: block(identity, 0, 0, cols, cols),
      });
    }
  });
}

/** Columns that plain rounding takes at once: little is fed back in vain. */
const IDENTITY_BLOCK = 16;
