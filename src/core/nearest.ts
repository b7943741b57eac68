/** The nearest of some known names, for messages about a name that does not exist. */

import leven from "leven";

/**
 * Returns the entry of `known` with the least edit distance to `name`, letter case aside; the first of
 * equals, `""` where `known` is empty.
 */
export function nearest(name: string, known: readonly string[]): string {
  const wanted = name.toLowerCase();
  let best = known[0] ?? "";
  let least = Infinity;
  for (const candidate of known) {
    // No need to know by how much the others are farther.
    const distance = leven(wanted, candidate.toLowerCase(), { maxDistance: least });
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}
