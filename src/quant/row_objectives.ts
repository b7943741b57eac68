/**
 * What errors of a layer's rows do to its outputs: e·H·eᵀ per row, with the Hessian that a factor was made
 * from. That one is still there: factoring leaves what is above the diagonal.
 *
 * Cost: half a product of rows times K², as much as the feedback of rounding those rows.
 */

import type { Kernels } from "../backend/backend.ts";
import { type LinalgContext, withScratch } from "../linalg/context.ts";
import { hessianBlock } from "../linalg/hessian.ts";
import { block, matrix, type MatrixF32 } from "../linalg/matrix.ts";
import { gatherColumns } from "../linalg/permute.ts";
import type { GptqFactor } from "./gptq.ts";

/** Columns of the Hessian that are multiplied at a time. */
const PANEL_COLS = 256;

/** Mean energies between which a Hessian and its products are well within the range of f32. */
const PLAIN_MEANS = { least: 1e-24, most: 1e24 };

/** Bytes of scratch that {@link rowObjectives} takes for some rows. */
export function rowObjectivesBytes(rows: number, { size, blockSize }: {
  readonly size: number;
  readonly blockSize: number;
}): number {
  return 4 * (rows * size + (blockSize + rows) * PANEL_COLS) + 64;
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
  const { size, blockSize, order, diagonal } = factor;
  const { rows } = errors;
  const sums = new Float64Array(rows);
  const mean = diagonal.reduce((sum, energy) => sum + energy, 0) / size;
  // Elements of other ranges are divided first, one by one, which takes most of the time.
  const isPlain = mean >= PLAIN_MEANS.least && mean <= PLAIN_MEANS.most;
  const unit = isPlain ? 1 : mean;
  withScratch(context, () => {
    const moved = order === null ? errors : matrix(memory.f32(rows * size), rows, size);
    if (order !== null) gatherColumns(moved, errors, order);
    const panelData = memory.f32(blockSize * PANEL_COLS);
    const productData = memory.f32(rows * PANEL_COLS);
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

function bytesOf(view: Float64Array): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
