/** Sizes of the groups of columns that are rotated. */

/** Those that `auto` takes. ComfyUI's fused kernel is for 256; the others are for layers it does not divide. */
export const ROTATION_GROUPS: readonly number[] = Object.freeze([256, 64, 16]);

/** Why `auto` rotates no layer of `cols` columns. */
export function noRotationGroup(cols: number): string {
  return `no rotation group (${ROTATION_GROUPS.join(", ")}) divides ${cols} columns`;
}

/**
 * Returns the size of the rotation groups for a layer of `cols` columns: with `auto` the largest of
 * {@link ROTATION_GROUPS} that divides them, else `wanted` itself; null if it does not divide.
 *
 * Throws `RangeError` if `wanted` is not a power of 4 (regular Hadamard matrices exist for those).
 */
export function convrotGroupFor(cols: number, wanted: "auto" | number): number | null {
  if (wanted === "auto") return ROTATION_GROUPS.find((size) => cols % size === 0) ?? null;
  if (!isPowerOfFour(wanted)) {
    throw new RangeError(`Cannot rotate in groups of ${wanted}: the size must be a power of 4`);
  }
  return cols % wanted === 0 ? wanted : null;
}

function isPowerOfFour(value: number): boolean {
  return Number.isInteger(value) && value >= 4 && Number.isInteger(Math.log2(value) / 2);
}
