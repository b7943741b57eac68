/** Blocks of a layer that is rounded in the space of its rows: known before the work, without its code. */

/** Most columns of a block: D has blocks of the rotation group, which must lie within one. */
const BLOCK_COLS_MAX = 256;

/**
 * Returns B for K columns rotated in groups: the largest multiple of the group that divides K and is at most
 * {@link BLOCK_COLS_MAX}; null if the group itself is larger.
 */
export function blockColsOf(cols: number, groupSize: number): number | null {
  for (let size = BLOCK_COLS_MAX - BLOCK_COLS_MAX % groupSize; size > 0; size -= groupSize) {
    if (cols % size === 0) return size;
  }
  return null;
}
