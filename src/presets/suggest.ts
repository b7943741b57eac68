/** The nearest name, for messages about a name that does not exist. */

import { nearest } from "../core/nearest.ts";

/** Returns `: did you mean "x"?`-style text naming the entry of `known` nearest to `name`. */
export function suggestion(name: string, known: readonly string[]): string {
  return `: the nearest is ${JSON.stringify(nearest(name, known))}`;
}
