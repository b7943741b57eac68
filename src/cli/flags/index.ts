/** All flags, and how a spelling is looked up. */

import { ADVANCED_FLAGS } from "./advanced.ts";
import { EXPERIMENTAL_FLAGS } from "./experimental.ts";
import { FILTER_FLAGS } from "./filters.ts";
import type { Flag } from "./flag.ts";
import { STANDARD_FLAGS } from "./standard.ts";

/** Every flag of every command, in the order help lists them. */
export const FLAGS: readonly Flag[] = [
  ...STANDARD_FLAGS,
  ...FILTER_FLAGS,
  ...EXPERIMENTAL_FLAGS,
  ...ADVANCED_FLAGS,
];

/** Spellings with `-` and `_` are the same. */
function folded(name: string): string {
  return name.replaceAll("_", "-");
}

const BY_NAME: ReadonlyMap<string, Flag> = new Map(
  FLAGS.flatMap((flag) =>
    [flag.name, ...(flag.aliases ?? [])].map((name) => [folded(name), flag] as const)
  ),
);

/** Returns the flag that is spelled `name` (without dashes), or undefined. */
export function flagNamed(name: string): Flag | undefined {
  return BY_NAME.get(folded(name));
}
