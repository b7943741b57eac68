/** Hessians in a rotated space: the same blocks, or those that a rotation makes of smaller ones. */

import type { LinalgContext } from "./context.ts";
import type { Hessian } from "./hessian.ts";
import { matrix } from "./matrix.ts";
import { shareOf } from "./team.ts";

/**
 * Returns `hessian` with blocks of `blockSize`, zeros between what were separate blocks.
 *
 * @param values f64 `[size * blockSize]` for the result.
 * @throws RangeError if `blockSize` is not a multiple of the present one, or does not divide the size.
 */
export function widenBlocks(hessian: Hessian, blockSize: number, values: Float64Array): Hessian {
  const { size, blockSize: old } = hessian;
  if (blockSize % old !== 0 || size % blockSize !== 0) {
    throw new RangeError(
      `Cannot widen blocks: ${old} to ${blockSize} of ${size} channels do not divide each other`,
    );
  }
  if (values.length !== size * blockSize) {
    throw new RangeError(
      `Cannot widen blocks: have ${values.length} elements, need ${size * blockSize}`,
    );
  }
  values.fill(0);
  for (let row = 0; row < size; row++) {
    const col = (row - row % old) % blockSize;
    values.set(hessian.values.subarray(row * old, (row + 1) * old), row * blockSize + col);
  }
  return { ...hessian, blockSize, values };
}

/**
 * Returns `hessian` after the rotation of its channels in groups of `groupSize`: RᵀHR. A Hessian of
 * smaller blocks gets blocks of `groupSize` first, in `spare`; others are rotated in place.
 *
 * @param groupSize a power of 4 that divides the blocks, or is a multiple of them and divides the size.
 * @param spare f64 `[size * groupSize]`, shared by the team; needed for smaller blocks only.
 * @throws RangeError if the group size does not fit.
 */
export function rotateHessian(
  context: LinalgContext,
  hessian: Hessian,
  groupSize: number,
  spare: Float64Array | null,
): Hessian {
  const { kernels, team } = context;
  let rotated = hessian;
  if (hessian.blockSize < groupSize) {
    if (spare === null) throw new RangeError("Cannot rotate Hessian: no memory for its blocks");
    rotated = { ...hessian, blockSize: groupSize, values: spare };
    if (team.index === 0) widenBlocks(hessian, groupSize, spare);
    team.barrier();
  }
  const { size, blockSize, values } = rotated;
  // Blocks lie one below the other: groups of rows and columns never reach over their ends.
  const rows = shareOf(team, 0, size);
  const mine = values.subarray(rows.start * blockSize);
  kernels.rotateRowsF64(matrix(mine, rows.end - rows.start, blockSize), groupSize);
  team.barrier();
  const columns = shareOf(team, 0, blockSize);
  const width = columns.end - columns.start;
  if (width > 0) {
    const strip = matrix(values.subarray(columns.start), size, width, blockSize);
    kernels.rotateColumnsF64(strip, groupSize);
  }
  team.barrier();
  return rotated;
}
