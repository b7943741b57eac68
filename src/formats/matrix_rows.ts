/** Some rows of a stored matrix as a matrix: one expert of a bank. */

import { DTYPE_BITS } from "../core/dtype.ts";
import { type LoraDelta, sliceDelta } from "../lora/lora_delta.ts";
import type { MatrixSource, PackedScale, SourceScale } from "./matrix_source.ts";
import { scalesAcross } from "./packed_codes.ts";

/**
 * Returns where `rows` rows of `matrix` from `firstRow` on come from; null if they cannot be read by themselves:
 * transformed codes, scales that lap over the rows or stand in tiles.
 */
export function matrixRows(
  matrix: MatrixSource,
  firstRow: number,
  rows: number,
): MatrixSource | null {
  const { dtype, cols, scale, packed, transform, deltas, rowFactors } = matrix;
  if (transform !== undefined) return null;
  const rowBytes = packed?.rowBytes ?? cols * DTYPE_BITS[dtype] / 8;
  const at = { firstRow, rows, cols };
  const ownScale = scale === null ? null : scaleRows(scale, at);
  const scales = packed?.scales.map((one) => scaleRows(one, at)) ?? [];
  if ((scale !== null && ownScale === null) || scales.includes(null)) return null;
  return {
    ...matrix,
    offsetBytes: matrix.offsetBytes + firstRow * rowBytes,
    rows,
    scale: ownScale,
    ...(packed === undefined ? {} : { packed: { ...packed, scales: scales as PackedScale[] } }),
    ...(deltas === undefined ? {} : { deltas: deltas.flatMap((delta) => deltaRows(delta, at)) }),
    ...(rowFactors === undefined
      ? {}
      : { rowFactors: rowFactors.slice(firstRow, firstRow + rows) }),
  };
}

/** A change by a LoRA, of some rows. */
function deltaRows(
  delta: LoraDelta,
  { firstRow, rows }: { firstRow: number; rows: number },
): LoraDelta[] {
  const own = sliceDelta(delta, firstRow, firstRow + rows);
  return own === null ? [] : [{ ...own, rowStart: own.rowStart - firstRow }];
}

/** The scales of some rows; null if one of them covers other rows, too. */
function scaleRows<T extends SourceScale & Pick<PackedScale, "tiledAcross">>(
  scale: T,
  { firstRow, rows, cols }: { firstRow: number; rows: number; cols: number },
): T | null {
  const { groupRows, dtype, offsetBytes } = scale;
  // One scale for more than these rows is theirs, if theirs are all under it.
  if (groupRows > rows && firstRow % groupRows + rows > groupRows) return null;
  if (groupRows <= rows && (firstRow % groupRows !== 0 || rows % groupRows !== 0)) return null;
  if (scale.tiledAcross !== undefined) return null;
  const bands = Math.floor(firstRow / groupRows) * scalesAcross(scale, cols);
  const bytes = dtype === "F8_E8M0" ? 1 : DTYPE_BITS[dtype] / 8;
  return {
    ...scale,
    groupRows: Math.min(groupRows, rows),
    offsetBytes: offsetBytes + bands * bytes,
  };
}
