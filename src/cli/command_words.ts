/** The command line once more, as the manifest of a part holds it. */

import { displayName, isRemote } from "../remote/location.ts";

/** What stands for the query of an address, which may be signed. */
const LEFT_OUT = "?...";

/**
 * Returns `args` without `--part` and its value, and without what addresses keep secret: whoever repeats the
 * command fills that in.
 */
export function commandWords(args: readonly string[]): string[] {
  const words: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const word = args[i]!;
    if (word === "--part") i++;
    else if (!word.startsWith("--part=")) words.push(isRemote(word) ? shownAddress(word) : word);
  }
  return words;
}

function shownAddress(word: string): string {
  const shown = displayName(word);
  return /^https?:/i.test(word) && /[?]/.test(word) ? `${shown}${LEFT_OUT}` : shown;
}
