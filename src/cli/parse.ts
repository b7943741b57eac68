/**
 * The command line, parsed by the flag table: `--flag value`, `--flag=value`, `-` and `_` alike,
 * switches with `--no-` or `=False`, lists, optional values. `options.ts` gives flags their meaning.
 */

import { existsSync } from "node:fs";
import { UsageError } from "../core/errors.ts";
import { nearestOr, nearMiss } from "../core/nearest.ts";
import { type CommandName, COMMANDS, type Flag } from "./flags/flag.ts";
import { findFlag, flagByName, FLAGS, takesFlag, typedForms } from "./flags/table.ts";
import { type FlagValue, NO_STREAMS, takeValue } from "./values.ts";

/** Names of `calibrate`, if no other flag is meant by them. */
const CALIBRATE_NAMES: Readonly<Record<string, string>> = {
  "--lora": "calibration-lora",
  "--samples": "calib_samples",
  "--seed": "manual_seed",
};

/** Words that a command takes beside its flags; absent: any number. */
const MOST_WORDS: Readonly<Partial<Record<CommandName, number>>> = {
  convert: 2,
  inspect: 1,
  verify: 1,
  compare: 2,
  join: 1,
  dequantize: 2,
  calibrate: 2,
  edit: 2,
  migrate: 2,
  doctor: 0,
  ui: 0,
  completions: 1,
};

/** A parsed command line. Flags are named as the table names them; `-` and `_` are the same. */
export class Parsed {
  readonly command: CommandName;
  readonly positionals: readonly string[];
  /** Canonical names of the flags that were given. */
  readonly given: ReadonlySet<string>;
  readonly #values: ReadonlyMap<string, FlagValue>;

  constructor(
    command: CommandName,
    positionals: readonly string[],
    values: ReadonlyMap<string, FlagValue>,
  ) {
    this.command = command;
    this.positionals = positionals;
    this.#values = values;
    this.given = new Set(values.keys());
  }

  /** Whether the flag was given. */
  has(name: string): boolean {
    return this.#get(name) !== undefined;
  }

  /** The switch, or `fallback` if it was not given. */
  bool(name: string, fallback = false): boolean {
    const value = this.#get(name);
    return value === undefined ? fallback : value === true;
  }

  /** The text of a string, enum or optional flag; null if it was not given. */
  string(name: string): string | null {
    const value = this.#get(name);
    return typeof value === "string" ? value : null;
  }

  /** The number, or the size in bytes; null if it was not given. */
  number(name: string): number | null {
    const value = this.#get(name);
    return typeof value === "number" ? value : null;
  }

  /** The values of a list; empty if it was not given. */
  list(name: string): readonly string[] {
    const value = this.#get(name);
    return Array.isArray(value) ? value : [];
  }

  /**
   * Returns the same command line as one of `command`, without positionals.
   *
   * @param changes values by canonical name; null takes a flag away.
   */
  as(command: CommandName, changes: Readonly<Record<string, FlagValue | null>>): Parsed {
    const values = new Map(this.#values);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null) values.delete(flagByName(name).name);
      else values.set(flagByName(name).name, value);
    }
    return new Parsed(command, [], values);
  }

  #get(name: string): FlagValue | undefined {
    return this.#values.get(flagByName(name).name);
  }
}

/**
 * Parses `argv`, the arguments without program and script. Every value is checked by its type.
 *
 * @throws UsageError for an unknown flag, value or subcommand, naming it and the nearest.
 */
export function parseArgs(argv: readonly string[]): Parsed {
  const command = commandOf(argv[0]);
  const rest = command === null ? argv : argv.slice(1);
  const positionals: string[] = [];
  const values = new Map<string, FlagValue>();
  for (let i = 0; i < rest.length;) {
    const word = rest[i]!;
    if (word === "--") {
      positionals.push(...rest.slice(i + 1));
      break;
    }
    if (!word.startsWith("-") || word === "-") {
      positionals.push(word);
      i++;
      continue;
    }
    const { flag, negated, typed, inline } = lookUp(word, command);
    if (!takesFlag(command ?? "convert", flag)) throw misplaced(flag, typed, command);
    const taken = takeValue(flag, { typed, negated, inline, rest: rest.slice(i + 1) });
    values.set(flag.name, taken.value);
    i += 1 + taken.words;
  }
  refuseSurplus(command ?? "convert", positionals);
  if (command === null) checkFirst(positionals[0]);
  return new Parsed(command ?? "convert", positionals, values);
}

function commandOf(word: string | undefined): CommandName | null {
  return COMMANDS.find((name) => name === word) ?? null;
}

/** @throws UsageError for a word that the command would ignore. */
function refuseSurplus(command: CommandName, positionals: readonly string[]): void {
  const most = MOST_WORDS[command] ?? Infinity;
  const surplus = positionals[most];
  if (positionals.includes("-")) throw new UsageError(NO_STREAMS);
  if (surplus === undefined) return;
  const taken = most === 0 ? "no words" : most === 1 ? "one word" : "SRC and DST";
  const name = command === "convert" ? "a conversion" : `\`quantsmith ${command}\``;
  throw new UsageError(
    `Unexpected argument ${JSON.stringify(surplus)}: ${name} takes ${taken} beside its flags`,
  );
}

/** A first word that is no file is a subcommand in the wrong place, or a misspelled one. */
function checkFirst(first: string | undefined): void {
  if (first === undefined || /[./\\]/.test(first) || existsSync(first)) return;
  if (commandOf(first) !== null) {
    throw new UsageError(
      `Cannot read the command line: the subcommand comes first, \`quantsmith ${first} ...\``,
    );
  }
  const near = nearMiss(first, [...COMMANDS, "help"]);
  const hint = near === null
    ? "a conversion is `quantsmith model.safetensors`; `--help` lists the subcommands"
    : `the nearest subcommand is ${near}`;
  throw new UsageError(`Unknown subcommand or missing file ${JSON.stringify(first)}: ${hint}`, {
    hint,
  });
}

function lookUp(
  word: string,
  command: CommandName | null,
): { flag: Flag; negated: boolean; typed: string; inline: string | null } {
  const equals = word.indexOf("=");
  const typed = equals < 0 ? word : word.slice(0, equals);
  const inline = equals < 0 ? null : word.slice(equals + 1);
  const found = findFlag(typed);
  if (command === "batch" && found?.flag.name === "input") {
    // The same words as for one model, but any number of them.
    return { flag: flagByName("inputs"), negated: false, typed, inline };
  }
  const short = command === "calibrate" ? CALIBRATE_NAMES[typed] : undefined;
  if (short !== undefined) return { flag: flagByName(short), negated: false, typed, inline };
  if (found !== undefined) return { ...found, typed, inline };
  const attached = attachedValue(word, command);
  if (attached !== null) return attached;
  const hint = nearestOr("`--help` lists the flags", typed, FLAGS.flatMap(typedForms));
  throw new UsageError(`Unknown flag ${typed}: ${hint}`, { hint });
}

/** `-ifile`: a short flag and its value in one word; not `-input`, if a dash is missing. */
function attachedValue(
  word: string,
  command: CommandName | null,
): ReturnType<typeof lookUp> | null {
  if (!/^-[^-]./.test(word) || findFlag(`-${word.split("=", 1)[0]}`) !== undefined) return null;
  const typed = word.slice(0, 2);
  const flag = findFlag(typed)?.flag;
  if (flag === undefined || flag.type.kind === "bool") return null;
  return { ...lookUp(typed, command), inline: word.slice(2) };
}

function misplaced(flag: Flag, typed: string, command: CommandName | null): UsageError {
  if (command === "batch" && flag.name === "output") {
    return new UsageError(
      `Cannot use ${typed} with \`quantsmith batch\`: every model gets a file of its own; ` +
        "--output-dir names the folder",
    );
  }
  const takers = flag.commands.map((name) => name === "convert" ? "a conversion" : name);
  return new UsageError(
    `Cannot use ${typed} with ${
      command === null || command === "convert" ? "a conversion" : `\`quantsmith ${command}\``
    }: it belongs to ${takers.join(", ")}`,
  );
}
