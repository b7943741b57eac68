/** Near names, for messages about a name that does not exist. */

import leven from "leven";

/** Shorter beginnings of a name say too little to guess the rest. */
const MIN_BEGINNING = 3;

/**
 * Returns the entry of `known` with the least edit distance to `name`, letter case aside; the first of
 * equals, `""` if `known` is empty. However far it is: for layers, where any name shows how they look.
 */
export function nearest(name: string, known: readonly string[]): string {
  return leastEdits(name, known).entry;
}

/**
 * Returns the entry of `known` that `name` was probably meant to be: a slip or two away, or begun with
 * `name`; null if there is none. Letter case, leading dashes, and `-` for `_` do not count.
 */
export function nearMiss(name: string, known: readonly string[]): string | null {
  const wanted = plain(name);
  const { entry, edits } = leastEdits(wanted, known.map(plain));
  const found = known.find((candidate) => plain(candidate) === entry);
  if (found !== undefined && isSlip(wanted, entry, edits)) return found;
  if (wanted.length < MIN_BEGINNING) return null;
  const begun = known.filter((candidate) => plain(candidate).startsWith(wanted));
  return begun.toSorted((a, b) => a.length - b.length)[0] ?? null;
}

/** Returns `the nearest is x`, or `otherwise` if `name` is no slip for any of `known`. */
export function nearestOr(otherwise: string, name: string, known: readonly string[]): string {
  const near = nearMiss(name, known);
  return near === null ? otherwise : `the nearest is ${near}`;
}

/** Returns the edit distance of two words: characters to insert, delete or replace. */
export function distance(a: string, b: string): number {
  return leven(a, b);
}

function plain(name: string): string {
  return name.replace(/^-+/, "").toLowerCase().replaceAll("_", "-");
}

/** One slip in a short word; in longer ones two or more, but few people miss the first letter. */
function isSlip(wanted: string, entry: string, edits: number): boolean {
  if (edits === 0) return true;
  if (wanted.length < 2) return false;
  if (edits === 1) return true;
  return wanted[0] === entry[0] && edits <= Math.max(wanted.length >= 5 ? 2 : 1, wanted.length / 5);
}

function leastEdits(
  name: string,
  known: readonly string[],
): { readonly entry: string; readonly edits: number } {
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
  return { entry: best, edits: least };
}
