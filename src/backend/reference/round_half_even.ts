/** Rounding to the nearest integer, ties to the even one: what every kernel that makes codes uses. */

/**
 * Returns the integer nearest to the finite `value`, the even one of two equally near. Exact. What is
 * negative and rounds to zero becomes -0, as in IEEE 754 and in WASM's `nearest`: a kernel that continues
 * computing with the result has the same bits here and there.
 */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor; // exact: the two are within a factor of two, or the rest is tiny in f64
  const up = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0);
  if (!up) return floor;
  return floor === -1 ? -0 : floor + 1;
}
