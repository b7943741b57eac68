/**
 * The effect of errors of a layer's rows on its outputs: e·H·eᵀ per row, with the Hessian that a factor was made
 * from. That one is still there: factoring leaves what is above the diagonal.
 *
 * Cost: half a product of rows times K², as much as the feedback of rounding those rows. With a factor in
 * integers {@link objectiveBounds} takes a third of the time, for it has nothing to convert, and leaves
 * an answer that is off by a known share.
 */

import type { CountedMemory } from "../core/counted_memory.ts";
import { bytesOf } from "../core/bytes.ts";
import type { Kernels } from "../backend/backend.ts";
import { type LinalgContext, withScratch } from "../linalg/context.ts";
import { hessianBlock } from "../linalg/hessian.ts";
import { block, matrix, type MatrixF32 } from "../linalg/matrix.ts";
import {
  type FeedBackBits,
  feedBackInto,
  LDLQ_BLOCK,
  packColumns,
  type PackedFactor,
  panelOf,
  roomForErrors,
} from "../linalg/packed_factor.ts";
import { type GptqFactor, type GptqSizes, usesIntegers } from "./gptq.ts";

/** Columns of the Hessian that are multiplied at a time. */
const PANEL_COLS = 256;

/** Mean energies between which a Hessian and its products are well within the range of f32. */
const PLAIN_MEANS = { least: 1e-24, most: 1e24 };

function roomForPanel(
  memory: Pick<LinalgContext["memory"], "f32">,
  rows: number,
  blockSize: number,
) {
  return {
    panelData: memory.f32(blockSize * PANEL_COLS),
    productData: memory.f32(rows * PANEL_COLS),
  };
}

function roomForMoved(
  memory: Pick<LinalgContext["memory"], "f32" | "i32">,
  rows: number,
  size: number,
) {
  return { values: memory.f32(rows * size), places: memory.i32(size) };
}

function roomForProducts(memory: Pick<LinalgContext["memory"], "f32" | "f64">, rows: number) {
  return {
    products: memory.f32(4 * Math.ceil(rows / 4) * LDLQ_BLOCK),
    squares: memory.f64(rows),
  };
}

/** Counts what {@link rowObjectives} and {@link objectiveBounds} take for some rows. */
export function planRowObjectives(memory: CountedMemory, rows: number, sizes: GptqSizes): void {
  const { size, blockSize, actOrder } = sizes;
  memory.within(() => {
    if (actOrder) roomForMoved(memory, rows, size);
    memory.within(() => roomForPanel(memory, rows, blockSize));
    if (!usesIntegers(sizes)) return;
    roomForErrors(memory, rows, blockSize);
    roomForProducts(memory, rows);
  });
}

/**
 * Returns the squared output error of every row, relative to the mean energy of a channel, f64 `[rows]`.
 * The Hessian is the one given to `prepareGptq`, without damping; channels without energy count as the
 * mean of the others. Not for the factor of a fallback.
 *
 * @param errors f32 `[rows, K]`, columns in the order of the layer.
 */
export function rowObjectives(
  context: LinalgContext & { readonly decode: Kernels["decode"] },
  factor: GptqFactor,
  errors: MatrixF32,
): Float64Array {
  const { kernels, memory, decode } = context;
  const { size, blockSize, diagonal } = factor;
  const { rows } = errors;
  const sums = new Float64Array(rows);
  const mean = meanEnergy(factor);
  // Elements of other ranges are divided first, one by one, which takes most of the time.
  const isPlain = mean >= PLAIN_MEANS.least && mean <= PLAIN_MEANS.most;
  const unit = isPlain ? 1 : mean;
  withScratch(context, () => {
    const moved = inOrderOf(factor, errors, context);
    const { panelData, productData } = roomForPanel(memory, rows, blockSize);
    for (let top = 0; top < size; top += blockSize) {
      const { data, rowStride } = hessianBlock(factor, top / blockSize);
      for (let first = 0; first < blockSize; first += PANEL_COLS) {
        const width = Math.min(PANEL_COLS, blockSize - first), height = first + width;
        for (let i = 0; i < height; i++) {
          const from = i * rowStride + first, to = i * width;
          if (isPlain && i < first) {
            const stored = data.subarray(from, from + width);
            decode(panelData.subarray(to, to + width), bytesOf(stored), "F64");
            continue;
          }
          for (let j = 0; j < width; j++) {
            panelData[to + j] = first + j > i ? data[from + j]! / unit : 0;
          }
          if (i >= first) panelData[to + i - first] = diagonal[top + i]! / unit / 2;
        }
        const panel = matrix(panelData, height, width), product = matrix(productData, rows, width);
        kernels.gemmF32(product, block(moved, 0, top, rows, height), panel, "set");
        for (let r = 0; r < rows; r++) {
          const at = r * moved.rowStride + top + first;
          let sum = 0;
          for (let j = 0; j < width; j++) sum += productData[r * width + j]! * moved.data[at + j]!;
          sums[r] = sums[r]! + 2 * sum / (mean / unit);
        }
      }
    }
  });
  return sums;
}

/** Numbers between which squared output errors lie, relative to the mean energy of a channel, f64 `[rows]`. */
export interface ObjectiveBounds {
  readonly least: Float64Array;
  readonly most: Float64Array;
}

/**
 * How far integers may be off, as a share of the error by the damped Hessian. What 16 bits lose adds 5e-9
 * of the row's own energy times the trace, which damping holds below 2e-4 of that error for 4,096 channels;
 * the rest is for what it does to sums of either sign, and for more channels. Bytes add 1e-3 at most (`bitsFor`), and
 * sums of either sign of which each is within 0.06 of its part: that many in thousands of columns come to 1/16 times
 * the root of their number, 1/200 for the fewest.
 */
const BOUNDS_SHARES: Readonly<Record<FeedBackBits, number>> = { 8: 1 / 32, 16: 1 / 64 };

/**
 * Returns bounds of what {@link rowObjectives} returns, from the factor in integers: with H + lambda·I =
 * L̃·D·L̃ᵀ the squared output error of a row e is the sum of D[j]·(e·L̃)[j]², less lambda·e·eᵀ. Null if the
 * factor is not in integers, or is damped more than was asked for (lambda may then differ by block).
 *
 * @param errors f32 `[rows, K]`, columns in the order of the layer.
 */
export function objectiveBounds(
  context: LinalgContext,
  factor: GptqFactor,
  errors: MatrixF32,
): ObjectiveBounds | null {
  const { size, blockSize, packed, report } = factor;
  const { rows } = errors;
  const { damping } = report;
  if (packed === null || damping === null || report.dampingRaised) return null;
  const damped = new Float64Array(rows), least = new Float64Array(rows);
  const mean = meanEnergy(factor), share = BOUNDS_SHARES[packed[0]!.bits];
  withScratch(context, () => {
    const moved = inOrderOf(factor, errors, context);
    for (let top = 0; top < size; top += blockSize) {
      const part = block(moved, 0, top, rows, blockSize), index = top / blockSize;
      addDamped(context, damped, part, { packed: packed[index]!, mean });
    }
  });
  withScratch(context, () => {
    const energies = context.memory.f64(rows);
    context.kernels.weighSquares(energies, errors, null);
    for (let r = 0; r < rows; r++) least[r] = damped[r]! - damping * energies[r]!;
  });
  return {
    least: least.map((sum, r) => sum - share * damped[r]!),
    most: least.map((sum, r) => sum + share * damped[r]!),
  };
}

/** Adds the sums of D[j]·(e·L̃)[j]² / mean over one block of channels. */
function addDamped(
  context: LinalgContext,
  sums: Float64Array,
  e: MatrixF32,
  { packed, mean }: { readonly packed: PackedFactor; readonly mean: number },
): void {
  const { kernels, memory } = context;
  const { rows, cols } = e, padded = 4 * Math.ceil(rows / 4);
  withScratch(context, () => {
    const errors = roomForErrors(memory, rows, cols);
    for (let first = 0; first < cols; first += LDLQ_BLOCK) {
      const own = block(e, 0, first, rows, Math.min(LDLQ_BLOCK, cols - first));
      packColumns(kernels, packed, errors, { first, e: own });
    }
    const room = roomForProducts(memory, rows), { squares } = room;
    const products = matrix(room.products, padded, LDLQ_BLOCK);
    for (let first = 0, index = 0; first < cols; first += LDLQ_BLOCK, index++) {
      const width = Math.min(LDLQ_BLOCK, cols - first), next = first + width;
      feedBackInto(kernels, packed, errors, { c: products, index });
      const diagonal = packed.diagonal.subarray(first, next);
      const product = block(products, 0, 0, rows, width), own = block(e, 0, first, rows, width);
      kernels.gemmF32(product, own, panelOf(packed, index), "add");
      kernels.weighSquares(squares, product, diagonal);
      for (let r = 0; r < rows; r++) sums[r] = sums[r]! + squares[r]! / mean;
    }
  });
}

/** The mean energy of a channel. */
function meanEnergy({ diagonal, size }: GptqFactor): number {
  return diagonal.reduce((sum, energy) => sum + energy, 0) / size;
}

/** Rows with their columns in the order of a factor; taken from `memory` if that is another one. */
function inOrderOf(
  { order, size }: GptqFactor,
  errors: MatrixF32,
  { kernels, memory }: LinalgContext,
): MatrixF32 {
  if (order === null) return errors;
  const { values, places } = roomForMoved(memory, errors.rows, size);
  const moved = matrix(values, errors.rows, size);
  places.set(order);
  kernels.gatherColumns(moved, errors, places);
  return moved;
}
