/** Rounding to the nearest integer, ties to the even one: what every kernel that makes codes uses. */

/** Returns the integer nearest to the finite `value`, the even one of two equally near. Exact. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor; // exact: the two are within a factor of two, or the rest is tiny in f64
  if (rest < 0.5) return floor;
  if (rest > 0.5) return floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}
