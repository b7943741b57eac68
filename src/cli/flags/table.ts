/** All flags, and how one is found by what was typed. */

import { ADVANCED_FLAGS } from "./advanced.ts";
import { EXPERIMENTAL_FLAGS } from "./experimental.ts";
import { FILTER_FLAGS } from "./filters.ts";
import type { CommandName, Flag } from "./flag.ts";
import { DOCUMENTED_NAMES } from "../../presets/documented.ts";
import { STANDARD_FLAGS } from "./standard.ts";

/** Every flag of every command. */
export const FLAGS: readonly Flag[] = Object.freeze([
  ...STANDARD_FLAGS,
  ...FILTER_FLAGS,
  ...EXPERIMENTAL_FLAGS,
  ...ADVANCED_FLAGS,
]);

/** The documented preset flags: each is a preset of its own name. */
export const PRESET_FLAGS: readonly string[] = DOCUMENTED_NAMES;

const BY_NAME: ReadonlyMap<string, Flag> = new Map(
  FLAGS.flatMap((flag) => [
    [spelling(`--${flag.name}`), flag] as const,
    ...(flag.aliases ?? []).map((alias) => [alias, flag] as const),
  ]),
);

/** Returns the one spelling that `-` and `_` share: `--scaling-mode`. The leading dashes stay. */
export function spelling(typed: string): string {
  return typed.startsWith("--") ? `--${typed.slice(2).replaceAll("_", "-")}` : typed;
}

/** A flag as typed: `negated` for `--no-x` of `--x`, and for `--x` of `--no-x`. */
export interface FoundFlag {
  readonly flag: Flag;
  readonly negated: boolean;
}

/** Returns the flag typed as `--some-name` or `-s`, or undefined. */
export function findFlag(typed: string): FoundFlag | undefined {
  const name = spelling(typed);
  const flag = BY_NAME.get(name);
  if (flag !== undefined) return { flag, negated: false };
  if (!name.startsWith("--")) return undefined;
  const opposite = BY_NAME.get(
    name.startsWith("--no-") ? `--${name.slice("--no-".length)}` : `--no-${name.slice(2)}`,
  );
  return opposite?.type.kind === "bool" && !isHelp(opposite)
    ? { flag: opposite, negated: true }
    : undefined;
}

/** Returns the flag of this canonical name. Throws RangeError for a name that no flag has. */
export function flagByName(name: string): Flag {
  const flag = BY_NAME.get(spelling(`--${name}`));
  if (flag === undefined) throw new RangeError(`No flag has the name ${JSON.stringify(name)}`);
  return flag;
}

/** Returns all that can be typed for a flag, in the documents' spelling. */
export function typedForms(flag: Flag): string[] {
  return [...(flag.aliases ?? []), `--${flag.name}`];
}

/** Returns what `typedForms` does, and for a switch the form that turns it off: `--no-x`. */
export function completedForms(flag: Flag): string[] {
  if (flag.type.kind !== "bool" || isHelp(flag)) return typedForms(flag);
  const { name } = flag;
  return [...typedForms(flag), name.startsWith("no-") ? `--${name.slice(3)}` : `--no-${name}`];
}

/** Flags that a batch refuses: they write one file for all models, or edit instead of converting. */
const ONE_FILE_FLAGS: readonly string[] = [
  "input",
  "output",
  "dry-run",
  "report",
  "report-layers",
  "edit-quant",
  "remove-keys",
  "add-keys",
  "quant-filter",
];

/** A command takes its own flags; a batch those of a conversion too, unless they concern one file. */
export function takesFlag(command: CommandName, flag: Flag): boolean {
  if (flag.commands.includes(command)) return true;
  return command === "batch" && flag.commands.includes("convert") &&
    !ONE_FILE_FLAGS.includes(flag.name);
}

function isHelp(flag: Flag): boolean {
  return flag.theme === "Help" || flag.name === "version";
}
