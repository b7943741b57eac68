/** The types of the flag table: one row says how a flag is parsed, helped and completed. */

import { DEFAULT_CONVERT_OPTIONS } from "../../plan/options.ts";

/** The subcommands, `convert` being the one without a name. */
export const COMMANDS = Object.freeze(
  [
    "convert",
    "inspect",
    "verify",
    "compare",
    "join",
    "dequantize",
    "calibrate",
    "batch",
    "edit",
    "migrate",
    "presets",
    "doctor",
    "ui",
    "completions",
  ] as const,
);

export type CommandName = typeof COMMANDS[number];

/** The help page that a flag of the conversion stands on. */
export type HelpPage = "standard" | "filters" | "experimental" | "advanced";

/** How the text after a flag is read. */
export type FlagType =
  /** `--x`, `--no-x`, `--x=False|True|0|1|yes|no`. */
  | { readonly kind: "bool" }
  /** Any text; `place` names it in the help. */
  | { readonly kind: "string"; readonly place: string }
  | { readonly kind: "int" | "float"; readonly min?: number; readonly max?: number }
  /** Bytes, with or without a unit: `500MB`, `2GiB`. */
  | { readonly kind: "size" }
  | { readonly kind: "enum"; readonly words: readonly string[] }
  /** One or more values, up to the next flag. */
  | { readonly kind: "list"; readonly place: string }
  /** A value may follow: one of `words`, or a whole number if `digits` names it. */
  | {
    readonly kind: "optional";
    readonly words: readonly string[];
    readonly digits?: string;
    /** Its meaning without a value. */
    readonly alone: string;
  };

/** One flag. */
export interface Flag {
  /** Canonical name in the documents' spelling, without dashes: `scaling_mode`. */
  readonly name: string;
  /** Other names, with their dashes: `-i`. */
  readonly aliases?: readonly string[];
  readonly type: FlagType;
  /** The option of a conversion that it sets, as `DEFAULT_CONVERT_OPTIONS` nests it: `quip.seed`. */
  readonly option?: string;
  /** The value that counts if it is not given; absent: off, or unset. Taken from its option. */
  readonly default?: boolean | number | string;
  /** The default in words, if it depends on other flags or the machine. */
  readonly defaultNote?: string;
  readonly page: HelpPage;
  /** Heading on the help page. */
  readonly theme: string;
  /** One line, no final period. */
  readonly help: string;
  readonly commands: readonly CommandName[];
  /** Concerns computing on a GPU only. */
  readonly gpuOnly?: boolean;
}

/** The type of a switch, for the tables. */
export const BOOL: FlagType = Object.freeze({ kind: "bool" });

/** Returns the type of a choice, for the tables. */
export function oneOf(...words: readonly string[]): FlagType {
  return { kind: "enum", words };
}

/** Returns `flags` as rows that share a page, a theme and commands. */
export function section(
  shared: Pick<Flag, "page" | "theme"> & Partial<Pick<Flag, "commands" | "gpuOnly">>,
  flags: readonly (
    & Omit<Flag, "page" | "theme" | "commands">
    & Partial<Pick<Flag, "commands">>
  )[],
): Flag[] {
  return flags.map((flag) => ({
    commands: ["convert"],
    ...shared,
    ...defaultOf(flag),
    ...flag,
  }));
}

/** Returns what help and manual say of the default; empty if the flag is off or unset. */
export function defaultText({ default: value, defaultNote }: Flag): string {
  if (defaultNote !== undefined) return defaultNote;
  if (value === true) return "on";
  return value === undefined || value === false ? "" : String(value);
}

function defaultOf(
  { name, option }: Pick<Flag, "name" | "option">,
): Pick<Flag, "default"> | Record<never, never> {
  if (option === undefined) return {};
  let value: unknown = DEFAULT_CONVERT_OPTIONS;
  for (const key of option.split(".")) value = (value as Record<string, unknown> | null)?.[key];
  if (typeof value === "boolean") return { default: name.startsWith("no-") ? !value : value };
  return typeof value === "number" || typeof value === "string" ? { default: value } : {};
}
