/**
 * GPTQ in the space of the calibration rows. With T rows of inputs, H = D + XᵀX: blocks on the diagonal
 * (damping, and the diagonal that small samples are shrunk to, rotated) and T directions. The codes of
 * LDLQ (`linalg/ldlq.ts`) come without any K x K matrix.
 *
 * Blocks of B columns are rounded from the last to the first. With the errors E of the blocks after block b
 * given, and those before it free, what is left of H for block b is the Schur complement
 *
 *     S_b = D_b + X_bᵀ M_b⁻¹ X_b,    M_b = I + sum over j < b of X_j D_j⁻¹ X_jᵀ    (T x T)
 *
 * and what the later blocks feed back into it is R · P_b, where R = sum over j > b of E_j X_jᵀ (rows x T) and
 * P_b = M_b⁻¹ X_b L_b⁻ᵀ diag(L_b)⁻¹, S_b = L_b L_bᵀ. (Woodbury's identity; X_jᵀ P_b is block (j, b) of
 * the unit lower factor of H.) So a pass from the first block to the last keeps M and makes P_b and the unit
 * lower factor of S_b, and rounding goes from the last block to the first.
 *
 * Cost in multiply-adds, for N rows of weights: 2 N K T + N K B / 2 to round, in f32, and some
 * K/B * (T³ / 6 + 2.5 B T² + 2 B² T) for the factor, in f64, against N K² / 2 and K³ / 6 + K² T / 2.
 *
 * Memory, shared: 8 K T + 4 K B bytes for X, P and the factors of blocks, 24 T² + 24 B T + 16 B² while the
 * factor is made. Each who rounds: 4 T + 4 B bytes per row.
 */

import type { CountedMemory } from "../core/counted_memory.ts";
import type { Kernels } from "../backend/backend.ts";
import { cholesky, planCholesky, solveRows } from "../linalg/cholesky.ts";
import { type Allocator, type LinalgContext, withScratch } from "../linalg/context.ts";
import { LDLQ_BLOCK, type LdlqRows, roundColumns } from "../linalg/ldlq.ts";
import { block, matrix, type MatrixF32, type MatrixF64, transpose } from "../linalg/matrix.ts";
import { actOrder, actOrderOfUnits } from "../linalg/permute.ts";
import { shareOf, triangleShareOf } from "../linalg/team.ts";
import { type GptqRows, planInOrder, roundInOrder } from "./rows_in_order.ts";

/** Rows of M per product. */
const GRAM_ROWS = 128;

/** Rows of weights that are reordered and rounded at a time. */
const CHUNK_ROWS = 256;

/** H = D + XᵀX of one layer, in the space of its codes. */
export interface RowSpaceHessian {
  /** f32 `[K, T]`: the inputs, rotated, one column each, times the square root of their weight. Shared. */
  readonly inputs: MatrixF32;
  /** The diagonal that D is made of, before the rotation, f64 `[K]`, 0 or more. */
  readonly diagonal: Float64Array;
  /** Columns that are rotated together; divides {@link blockCols}. */
  readonly groupSize: number;
  /** B, divides K. */
  readonly blockCols: number;
  /** Added to the diagonal. Above 0. */
  readonly damping: number;
  /** Columns that stay side by side, divides {@link groupSize}. */
  readonly unitCols?: number;
}

/** A factored {@link RowSpaceHessian}. Its arrays are shared by the team. */
export interface RowSpaceFactor extends RowSpaceHessian {
  /** Columns in the order of the factor. */
  readonly inputs: MatrixF32;
  /** P_b `[T, B]`, one block below the other, f32. */
  readonly feed: Float32Array;
  /** The unit lower factors of S_b `[B, B]`, f32. */
  readonly panels: Float32Array;
  /** Column k of the factor is column `order[k]` of the layer. */
  readonly order: Int32Array;
}

/** How large a layer is: K, T and B. */
export interface RowSpaceSizes {
  readonly cols: number;
  readonly terms: number;
  readonly blockCols: number;
  /** Whether codes may be certain levels only. */
  readonly hasLevels: boolean;
}

function roomForFactor(
  shared: Pick<Allocator, "f32">,
  { cols, terms, blockCols }: Omit<RowSpaceSizes, "hasLevels">,
) {
  return { moved: shared.f32(cols * terms), panels: shared.f32(cols * blockCols) };
}

/** Counts what each member takes in {@link factorRowSpace}, and what the team does in `shared`. */
export function planRowSpace(
  memory: CountedMemory,
  shared: CountedMemory,
  sizes: RowSpaceSizes,
): void {
  const { terms, blockCols } = sizes;
  roomForFactor(shared, sizes);
  shared.within(() => workOf(shared, terms, blockCols));
  planCholesky(memory, Math.max(terms, blockCols));
  memory.within(() => memory.f64(blockCols));
}

function roomForRounding(
  memory: Pick<Allocator, "f32">,
  rows: number,
  { terms, blockCols }: Pick<RowSpaceSizes, "terms" | "blockCols">,
) {
  return { sums: memory.f32(rows * terms), feedback: memory.f32(rows * blockCols) };
}

/** Counts what {@link roundInRowSpace} takes for `rows` rows. */
export function planRowSpaceRounding(
  memory: CountedMemory,
  rows: number,
  sizes: RowSpaceSizes,
): void {
  memory.within(() => {
    roomForRounding(memory, Math.min(CHUNK_ROWS, rows), sizes);
    const { cols: size, hasLevels } = sizes;
    planInOrder(memory, { rows, size, chunkRows: CHUNK_ROWS, hasLevels });
  });
}

function roomForObjectives(
  memory: Pick<Allocator, "f32" | "i32">,
  rows: number,
  { cols, terms }: Pick<RowSpaceSizes, "cols" | "terms">,
) {
  return {
    movedData: memory.f32(rows * cols),
    productData: memory.f32(rows * terms),
    places: memory.i32(cols),
  };
}

/** Counts what {@link rowSpaceObjectives} takes for `rows` rows. */
export function planRowSpaceObjectives(
  memory: CountedMemory,
  rows: number,
  sizes: RowSpaceSizes,
): void {
  memory.within(() => roomForObjectives(memory, rows, sizes));
}

/**
 * Factors a Hessian. All members of the team call it; `inputs` are used up. The same bits for every size of
 * team. Null, to all members: a pivot was not positive, so that numbers must be out of range.
 *
 * @param shared memory that all members see, from which they take in the same order.
 */
export function factorRowSpace(
  context: LinalgContext,
  shared: Allocator,
  hessian: RowSpaceHessian,
): RowSpaceFactor | null {
  const { team } = context;
  const { blockCols } = hessian;
  const cols = hessian.inputs.rows, rows = hessian.inputs.cols;
  const order = orderOf(hessian);
  const { moved, panels } = roomForFactor(shared, { cols, terms: rows, blockCols });
  const own = shareOf(team, 0, cols);
  for (let k = own.start; k < own.end; k++) {
    const from = order[k]! * rows;
    moved.set(hessian.inputs.data.subarray(from, from + rows), k * rows);
  }
  team.barrier();
  // The inputs as they were are not needed any more: P takes their place.
  const feed = hessian.inputs.data.subarray(0, cols * rows);
  const factor: RowSpaceFactor = {
    ...hessian,
    inputs: matrix(moved, cols, rows),
    feed,
    panels,
    order,
  };
  const mark = shared.mark();
  const work = workOf(shared, rows, blockCols);
  const mine = shareOf(team, 0, rows);
  work.m.data.fill(0, mine.start * rows, mine.end * rows);
  for (let t = mine.start; t < mine.end; t++) work.m.data[t * (rows + 1)] = 1;
  team.barrier();
  let isDone = true;
  for (let index = 0; isDone && index < cols / blockCols; index++) {
    isDone = factorBlock(context, factor, work, index);
  }
  shared.release(mark);
  return isDone ? factor : null;
}

/** Blocks of least energy first, so that they are rounded last; within a block the same. */
function orderOf(
  { inputs, diagonal, groupSize, blockCols, unitCols = 1 }: RowSpaceHessian,
): Int32Array {
  const cols = inputs.rows, rows = inputs.cols;
  const energies = new Float64Array(cols);
  for (let k = 0; k < cols; k++) {
    let sum = 0;
    for (let t = 0; t < rows; t++) sum += inputs.data[k * rows + t]! ** 2;
    energies[k] = sum;
  }
  for (let first = 0; first < cols; first += groupSize) {
    // Elements of the rotation are ± 1 / sqrt(g).
    let sum = 0;
    for (let k = first; k < first + groupSize; k++) sum += diagonal[k]!;
    for (let k = first; k < first + groupSize; k++) energies[k]! += sum / groupSize;
  }
  const blocks = new Float64Array(cols / blockCols);
  energies.forEach((energy, k) => blocks[Math.floor(k / blockCols)]! += energy);
  const order = new Int32Array(cols);
  actOrder(blocks).forEach((index, place) => {
    const own = energies.subarray(index * blockCols, (index + 1) * blockCols);
    const local = actOrderOfUnits(own, unitCols);
    local.forEach((k, i) => order[place * blockCols + i] = index * blockCols + k);
  });
  return order;
}

/** Memory of the team while it factors. */
interface Work {
  /** M, lower triangle, and its factor; that one turned around, `[T, T]`. */
  readonly m: MatrixF64;
  readonly c: MatrixF64;
  readonly turned: MatrixF64;
  /** D_b, then its factor; S_b, then its factor, `[B, B]`. */
  readonly d: MatrixF64;
  readonly s: MatrixF64;
  /** `[B, T]`, one row per column of the block. */
  readonly y: MatrixF64;
  readonly g: MatrixF64;
  /** `[T, B]`. */
  readonly z: MatrixF64;
}

function workOf(shared: Allocator, rows: number, cols: number): Work {
  const take = (height: number, width: number) => matrix(shared.f64(height * width), height, width);
  return {
    m: take(rows, rows),
    c: take(rows, rows),
    turned: take(rows, rows),
    d: take(cols, cols),
    s: take(cols, cols),
    y: take(cols, rows),
    g: take(cols, rows),
    z: take(rows, cols),
  };
}

/** Makes P and the unit lower factor of block `index`, and adds the block to M. Ends in a barrier. */
function factorBlock(
  context: LinalgContext,
  factor: RowSpaceFactor,
  work: Work,
  index: number,
): boolean {
  const { kernels, team } = context;
  const { blockCols: width, inputs } = factor;
  const { c, turned, d, s, y, g, z } = work;
  const rows = inputs.cols, first = index * width;
  const byRow = shareOf(team, 0, rows), byCol = shareOf(team, 0, width);
  loadBlock(context, factor, work, index);
  // M = C Cᵀ
  if (cholesky(context, c, 0) >= 0) return false;
  for (let i = byRow.start; i < byRow.end; i++) {
    for (let j = 0; j <= i; j++) {
      turned.data[i * rows + j] = c.data[(rows - 1 - j) * rows + rows - 1 - i]!;
    }
  }
  // Yᵀ = Xᵀ C⁻ᵀ, S = D + YᵀY
  const ownCols = byCol.end - byCol.start;
  solveRows(kernels, block(y, byCol.start, 0, ownCols, rows), c);
  const ownS = block(s, byCol.start, 0, ownCols, width);
  ownS.data.set(d.data.subarray(byCol.start * width, byCol.end * width));
  team.barrier();
  if (ownCols > 0) {
    kernels.gemmF64(ownS, block(y, byCol.start, 0, ownCols, rows), transpose(y), "add");
  }
  // Gᵀ = Yᵀ C⁻¹: C turned around is upper triangular, and its transpose lower again.
  for (let j = byCol.start; j < byCol.end; j++) {
    for (let t = 0; t < rows; t++) g.data[j * rows + t] = y.data[j * rows + rows - 1 - t]!;
  }
  solveRows(kernels, block(g, byCol.start, 0, ownCols, rows), turned);
  team.barrier();
  if (cholesky(context, s, 0) >= 0 || cholesky(context, d, 0) >= 0) return false;
  // M += Z Zᵀ with Z = X F⁻ᵀ, D = F Fᵀ
  const ownZ = block(z, byRow.start, 0, byRow.end - byRow.start, width);
  solveRows(kernels, ownZ, d);
  team.barrier();
  addToMoments(context, work, { rows, width });
  team.barrier(); // Z is free again
  // P = G L⁻ᵀ diag(L)⁻¹
  for (let t = byRow.start; t < byRow.end; t++) {
    for (let j = 0; j < width; j++) z.data[t * width + j] = g.data[j * rows + rows - 1 - t]!;
  }
  solveRows(kernels, ownZ, s);
  storeBlock(context, factor, work, first);
  team.barrier();
  return true;
}

/** Copies M to C, the inputs of block `index` to Y and Z, and makes D_b. Ends in a barrier. */
function loadBlock(
  context: LinalgContext,
  factor: RowSpaceFactor,
  { m, c, d, y, z }: Work,
  index: number,
): void {
  const { team } = context, { blockCols: width, inputs } = factor;
  const rows = inputs.cols, first = index * width;
  const x = block(inputs, first, 0, width, rows);
  const byRow = shareOf(team, 0, rows), byCol = shareOf(team, 0, width);
  for (let t = byRow.start; t < byRow.end; t++) {
    c.data.set(m.data.subarray(t * rows, t * rows + t + 1), t * rows);
    for (let j = 0; j < width; j++) z.data[t * width + j] = x.data[j * rows + t]!;
  }
  for (let j = byCol.start; j < byCol.end; j++) {
    for (let t = 0; t < rows; t++) y.data[j * rows + t] = x.data[j * rows + t]!;
  }
  if (team.index === 0) fillBlock(context, factor, d, first);
  team.barrier();
}

/** M += Z Zᵀ, what of it is this member's. */
function addToMoments(
  { kernels, team }: LinalgContext,
  { m, z }: Work,
  { rows, width }: { readonly rows: number; readonly width: number },
): void {
  const part = triangleShareOf(team, rows, GRAM_ROWS);
  for (let top = part.start; top < part.end; top += GRAM_ROWS) {
    const height = Math.min(GRAM_ROWS, part.end - top), reach = top + height;
    const left = block(z, top, 0, height, width);
    const right = transpose(block(z, 0, 0, reach, width));
    kernels.gemmF64(block(m, top, 0, height, reach), left, right, "add");
  }
}

/** Stores P and the unit lower factor of the block whose first column is `first`. */
function storeBlock(
  context: LinalgContext,
  { feed: feeds, panels, blockCols: width, inputs }: RowSpaceFactor,
  { s, z }: Work,
  first: number,
): void {
  const { kernels, team } = context, rows = inputs.cols;
  const byRow = shareOf(team, 0, rows);
  const feed = feeds.subarray(first * rows, (first + width) * rows);
  for (let t = byRow.start; t < byRow.end; t++) {
    for (let j = 0; j < width; j++) {
      feed[t * width + j] = z.data[t * width + j]! / s.data[j * (width + 1)]!;
    }
  }
  if (team.index !== team.size - 1) return;
  const panel = panels.subarray(first * width, (first + width) * width);
  const diagonal = Float64Array.from({ length: width }, (_, j) => s.data[j * (width + 1)]!);
  withScratch(context, () => {
    const own = context.memory.f64(width);
    own.set(diagonal);
    kernels.unitLowerPanel(matrix(panel, width, width), s, own);
  });
}

/** D_b: the diagonal of its columns rotated, damped, and in their order. */
function fillBlock(
  { kernels }: LinalgContext,
  { diagonal, groupSize, blockCols: width, damping, order }: RowSpaceFactor,
  into: MatrixF64,
  first: number,
): void {
  const start = order[first]! - order[first]! % width;
  const { data } = into;
  data.fill(0);
  for (let k = 0; k < width; k++) data[k * (width + 1)] = diagonal[start + k]!;
  kernels.rotateRowsF64(into, groupSize);
  kernels.rotateColumnsF64(into, groupSize);
  const rotated = data.slice();
  for (let i = 0; i < width; i++) {
    const from = (order[first + i]! - start) * width;
    for (let j = 0; j < width; j++) {
      data[i * width + j] = rotated[from + order[first + j]! - start]!;
    }
    data[i * (width + 1)]! += damping;
  }
}

/**
 * Rounds some rows of a layer, as `gptqRows` does. The same bits however rows are split over calls and
 * workers.
 *
 * @throws RangeError if sizes do not fit together, or the memory is exhausted.
 */
export function roundInRowSpace(
  context: LinalgContext,
  factor: RowSpaceFactor,
  rows: GptqRows,
): void {
  const { inputs, blockCols, order } = factor;
  const size = inputs.rows, most = Math.min(CHUNK_ROWS, Math.ceil(rows.weights.length / size));
  withScratch(context, () => {
    const sizes = { cols: size, terms: inputs.cols, blockCols };
    const { sums, feedback } = roomForRounding(context.memory, most, sizes);
    roundInOrder(
      context,
      rows,
      { size, order, chunkRows: CHUNK_ROWS },
      (chunk) => roundChunk(context, factor, chunk, { sums, feedback }),
    );
  });
}

/** @param room R, f32 `[rows, T]`, and what later blocks feed back into one, f32 `[rows, B]`. */
function roundChunk(
  context: LinalgContext,
  { inputs, feed, panels, blockCols: width }: RowSpaceFactor,
  chunk: LdlqRows,
  room: { readonly sums: Float32Array; readonly feedback: Float32Array },
): void {
  const { kernels } = context, { weights } = chunk, { rows } = weights;
  const cols = inputs.rows, terms = inputs.cols;
  const sums = matrix(room.sums, rows, terms);
  sums.data.fill(0, 0, rows * terms);
  for (let first = cols - width; first >= 0; first -= width) {
    const fed = matrix(room.feedback, rows, width);
    const panel = matrix(panels.subarray(first * width, (first + width) * width), width, width);
    const p = matrix(feed.subarray(first * terms, (first + width) * terms), terms, width);
    kernels.gemmF32(fed, sums, p, "set");
    const last = (Math.ceil(width / LDLQ_BLOCK) - 1) * LDLQ_BLOCK;
    for (let at = last; at >= 0; at -= LDLQ_BLOCK) {
      const wide = Math.min(LDLQ_BLOCK, width - at), later = width - at - wide;
      const own = block(fed, 0, at, rows, wide);
      if (later > 0) {
        const done = block(weights, 0, first + at + wide, rows, later);
        kernels.gemmF32(own, done, block(panel, at + wide, at, later, wide), "add");
      }
      roundColumns(kernels, chunk, {
        first: first + at,
        width: wide,
        feedback: own,
        panel: block(panel, at, at, wide, wide),
      });
    }
    if (first > 0) {
      const errors = block(weights, 0, first, rows, width);
      kernels.gemmF32(sums, errors, block(inputs, first, 0, width, terms), "add");
    }
  }
}

/**
 * Returns the squared output error of every row, e·H·eᵀ without damping, f64 `[rows]`.
 *
 * @param errors f32 `[rows, K]`, columns in the order of the layer.
 */
export function rowSpaceObjectives(
  context: LinalgContext & { readonly rotate: Kernels["rotate"] },
  { inputs, diagonal, groupSize, order }: RowSpaceFactor,
  errors: MatrixF32,
): Float64Array {
  const { kernels, memory } = context;
  const cols = inputs.rows, terms = inputs.cols, { rows } = errors;
  const found = new Float64Array(rows);
  withScratch(context, () => {
    const { movedData, productData, places } = roomForObjectives(memory, rows, { cols, terms });
    const moved = matrix(movedData, rows, cols), products = matrix(productData, rows, terms);
    places.set(order);
    kernels.gatherColumns(moved, errors, places);
    kernels.gemmF32(products, moved, inputs, "set");
    for (let i = 0; i < rows; i++) {
      const from = i * errors.rowStride;
      moved.data.set(errors.data.subarray(from, from + cols), i * cols);
    }
    context.rotate(moved.data.subarray(0, rows * cols), groupSize);
    for (let i = 0; i < rows; i++) {
      let sum = 0;
      for (let t = 0; t < terms; t++) sum += products.data[i * terms + t]! ** 2;
      for (let k = 0; k < cols; k++) sum += diagonal[k]! * moved.data[i * cols + k]! ** 2;
      found[i] = sum;
    }
  });
  return found;
}
