/** Patterns of layers that match nothing: refused for every flag that takes one, with the nearest name. */

import { UsageError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";

/** A pattern that matches no layer. */
export interface UnmatchedPattern {
  readonly pattern: string;
  /** The flag or file that it comes from: `--exclude-layers`. */
  readonly place: string;
  /** The layer whose name is nearest, if it is known. */
  readonly nearest?: string | null;
}

/** How many patterns a message lists. */
const LISTED = 5;

/**
 * @param names what the patterns could have matched.
 * @param what these are, in the plural: `layers of the model`.
 * @throws UsageError if there are such patterns; it names them, their places and the nearest names.
 */
export function refuseUnmatched(
  patterns: readonly UnmatchedPattern[],
  names: readonly string[],
  what = "layers of the model",
): void {
  const first = patterns[0];
  if (first === undefined) return;
  const ofPlace = patterns.filter(({ place }) => place === first.place);
  const listed = ofPlace.slice(0, LISTED).map(({ pattern, nearest: known }) => {
    const near = known ?? (names.length === 0 ? null : nearest(pattern, names));
    return `${JSON.stringify(pattern)}${
      near === null ? "" : ` (the nearest is ${JSON.stringify(near)})`
    }`;
  });
  const more = ofPlace.length > LISTED ? `, and ${ofPlace.length - LISTED} more` : "";
  throw new UsageError(
    `Cannot use ${first.place}: none of the ${what} matches ${listed.join(", ")}${more}`,
  );
}
