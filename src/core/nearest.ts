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
    const edits = leven(wanted, candidate.toLowerCase(), { maxDistance: least });
    if (edits < least) {
      least = edits;
      best = candidate;
    }
  }
  return best;
}

/** Returns the edit distance of two words: characters to insert, delete or replace. */
export function distance(a: string, b: string): number {
  return leven(a, b);
}
