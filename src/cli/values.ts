/** The value of one flag, read from the words after it and checked by the flag's type. */

import { existsSync } from "node:fs";
import { UsageError } from "../core/errors.ts";
import { distance, nearMiss } from "../core/nearest.ts";
import type { Flag, FlagType } from "./flags/flag.ts";

/** A value of a flag. Sizes are numbers of bytes. */
export type FlagValue = boolean | number | string | readonly string[];

/** The source of a value. */
export interface ValuePlace {
  /** The flag as it was typed, for messages. */
  readonly typed: string;
  /** `--no-x`. */
  readonly negated: boolean;
  /** Text after `=`, or null. */
  readonly inline: string | null;
  /** The words after the flag. */
  readonly rest: readonly string[];
}

/** Why `-` names no file. */
export const NO_STREAMS =
  'Cannot use "-" as a file: models are read and written by position, not as a stream; name a file';

const TRUE_WORDS = ["true", "1", "yes", "on"];
const FALSE_WORDS = ["false", "0", "no", "off"];

/** Bytes per unit. One letter counts in powers of 1024, as in other command-line tools. */
const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  k: 2 ** 10,
  kb: 1e3,
  kib: 2 ** 10,
  m: 2 ** 20,
  mb: 1e6,
  mib: 2 ** 20,
  g: 2 ** 30,
  gb: 1e9,
  gib: 2 ** 30,
  t: 2 ** 40,
  tb: 1e12,
  tib: 2 ** 40,
};

/**
 * Returns the value of `flag`, and how many words of `place.rest` it took.
 *
 * @throws UsageError if the value is missing, of the wrong type or out of range.
 */
export function takeValue(flag: Flag, place: ValuePlace): { value: FlagValue; words: number } {
  const { typed, negated, inline, rest } = place;
  const { type } = flag;
  const next = rest[0];
  switch (type.kind) {
    case "bool": {
      // Python's `--flag False`: no one names a file so, and an output of that name would surprise.
      const isWord = inline === null && next !== undefined && /^(true|false)$/i.test(next);
      const word = isWord ? next : inline;
      return { value: readSwitch(typed, word) !== negated, words: isWord ? 1 : 0 };
    }
    case "optional": {
      if (inline !== null) {
        const word = optionalWord(type, inline);
        if (word === null) throw unknownWord(typed, inline, type);
        return { value: word, words: 0 };
      }
      const word = next === undefined ? null : optionalWord(type, next);
      if (word === null && next !== undefined && isMisspelled(next, type)) {
        throw unknownWord(typed, next, type);
      }
      return word === null ? { value: type.alone, words: 0 } : { value: word, words: 1 };
    }
    case "list": {
      if (inline !== null) return { value: [readText(typed, inline, type)], words: 0 };
      const end = rest.findIndex((word) => /^-./.test(word));
      const words = rest.slice(0, end < 0 ? rest.length : end);
      if (words.length === 0) throw missing(typed, type);
      return { value: words.map((word) => readText(typed, word, type)), words: words.length };
    }
    default: {
      if (inline !== null) return { value: readScalar(typed, inline, type), words: 0 };
      const isFlag = next !== undefined && /^-./.test(next) && !/^-[\d.]/.test(next);
      if (next === undefined || isFlag) throw missing(typed, type);
      return { value: readScalar(typed, next, type), words: 1 };
    }
  }
}

/** Returns how the value of a type is written in help and messages: ` FILE`, ` a|b`; empty for switches. */
export function operand(type: FlagType): string {
  switch (type.kind) {
    case "bool":
      return "";
    case "string":
    case "list":
      return ` ${type.place}`;
    case "int":
    case "float":
      return " N";
    case "size":
      return " SIZE";
    case "enum":
      return ` ${type.words.join("|")}`;
    case "optional":
      return ` [${optionalWords(type).join("|")}]`;
  }
}

type Optional = Extract<FlagType, { kind: "optional" }>;
type Choice = Extract<FlagType, { words: readonly string[] }>;
type Scalar = Exclude<FlagType, { kind: "bool" | "optional" | "list" }>;

function optionalWords({ words, digits }: Optional): string[] {
  return digits === undefined ? [...words] : [...words, digits];
}

function sameWord(words: readonly string[], typed: string): string | undefined {
  return words.find((word) => word.toLowerCase() === typed.toLowerCase());
}

function optionalWord(type: Optional, word: string): string | null {
  if (type.digits !== undefined && /^\d+$/.test(word)) return word;
  return sameWord(type.words, word) ?? null;
}

/** Whether `word`, which may also be a file, is more likely one of the words with a slip in it. */
function isMisspelled(word: string, { words }: Optional): boolean {
  if (!/^[a-z-]+$/i.test(word) || word.startsWith("-") || existsSync(word)) return false;
  const typed = word.toLowerCase();
  return words.some((known) => distance(typed, known.toLowerCase()) <= known.length / 4);
}

function readSwitch(typed: string, inline: string | null): boolean {
  if (inline === null) return true;
  const word = inline.toLowerCase();
  if (TRUE_WORDS.includes(word)) return true;
  if (FALSE_WORDS.includes(word)) return false;
  throw new UsageError(
    `Cannot use ${JSON.stringify(inline)} for ${typed}: it takes True, False, 1, 0, yes or no`,
  );
}

function readScalar(typed: string, word: string, type: Scalar): FlagValue {
  switch (type.kind) {
    case "string":
      return readText(typed, word, type);
    case "enum": {
      const known = sameWord(type.words, word);
      if (known === undefined) throw unknownWord(typed, word, type);
      return known;
    }
    case "size":
      return readSize(typed, word);
    default:
      return readNumber(typed, word, type);
  }
}

function readText(typed: string, word: string, { place }: { readonly place: string }): string {
  if (word === "-" && /FILE|DIR/.test(place)) throw new UsageError(NO_STREAMS);
  if (word === "") throw new UsageError(`Cannot use an empty value for ${typed}`);
  return word;
}

function readNumber(
  typed: string,
  word: string,
  { kind, min = -Infinity, max = Infinity }: Extract<Scalar, { kind: "int" | "float" }>,
): number {
  // Number() also reads "", "0x10" and "Infinity", which nobody means here.
  const value = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(word) ? Number(word) : NaN;
  const isKind = kind === "int" ? Number.isSafeInteger(value) : Number.isFinite(value);
  if (isKind && value >= min && value <= max) return value;
  const range = min === -Infinity
    ? ""
    : max === Infinity || max === Number.MAX_SAFE_INTEGER
    ? ` of at least ${min}`
    : ` from ${min} to ${max}`;
  throw new UsageError(
    `Cannot use ${JSON.stringify(word)} for ${typed}: it takes ${
      kind === "int" ? "a whole number" : "a number"
    }${range}`,
  );
}

/** Returns the bytes that `word` names. @throws UsageError if it is no size. */
export function readSize(typed: string, word: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(word);
  const unit = SIZE_UNITS[match?.[2]?.toLowerCase() ?? ""];
  const bytes = match === null || unit === undefined ? NaN : Math.floor(Number(match[1]) * unit);
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new UsageError(
    `Cannot use ${JSON.stringify(word)} for ${typed}: it takes a size as 500MB, 2GiB or bytes`,
  );
}

function unknownWord(typed: string, word: string, type: Choice): UsageError {
  const words = type.kind === "optional" ? optionalWords(type) : type.words;
  const near = nearMiss(word, type.words);
  return new UsageError(
    `Cannot use ${JSON.stringify(word)} for ${typed}: it takes ${words.join(", ")}` +
      (near === null ? "" : `; the nearest is ${near}`),
  );
}

function missing(typed: string, type: FlagType): UsageError {
  return new UsageError(`Missing value: ${typed}${operand(type)}`);
}
