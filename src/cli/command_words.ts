/** The command line once more, as the manifest of a part holds it. */

import { displayName, isRemote } from "../remote/location.ts";

/** Returns `args` without `--part` and its value, and without what addresses keep secret. */
export function commandWords(args: readonly string[]): string[] {
  const words: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const word = args[i]!;
    if (word === "--part") i++;
    else if (!word.startsWith("--part=")) words.push(isRemote(word) ? displayName(word) : word);
  }
  return words;
}
