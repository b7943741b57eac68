/** The nearest name, for messages about a name that does not exist. */

import { nearMiss } from "../core/nearest.ts";

/** Returns `: the nearest is "x"` for a slip in an entry of `known`, else a note on which there are. */
export function suggestion(name: string, known: readonly string[]): string {
  const near = nearMiss(name, known);
  return near === null
    ? ": `quantsmith presets list` names all"
    : `: the nearest is ${JSON.stringify(near)}`;
}
