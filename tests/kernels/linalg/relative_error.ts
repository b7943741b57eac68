/** How far a product that a kernel made is from the product of its factors. */

import type { NumberArray } from "../subject.ts";

/** Returns |c - a·b| / |a·b|, both in the norm of all elements; a [rows, terms], b [terms, cols]. */
export function relativeError(
  c: NumberArray,
  a: NumberArray,
  b: NumberArray,
  { rows, terms, cols }: { readonly rows: number; readonly terms: number; readonly cols: number },
): number {
  let error = 0, energy = 0;
  for (let r = 0; r < rows; r++) {
    for (let j = 0; j < cols; j++) {
      let want = 0;
      for (let k = 0; k < terms; k++) want += a[r * terms + k]! * b[k * cols + j]!;
      error += (c[r * cols + j]! - want) ** 2;
      energy += want ** 2;
    }
  }
  return Math.sqrt(error / energy);
}
