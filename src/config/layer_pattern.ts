/**
 * Patterns of layer names. They are matched by RE2, in time linear in the name: a pattern from a
 * stranger's file cannot hang a conversion, and those that could (lookaround, backreferences) are
 * refused when they are read.
 */

import { RE2JS, RE2JSSyntaxException } from "re2js";
import { UsageError } from "../core/errors.ts";
import { patternLiterals } from "./pattern_literals.ts";

/** The longest pattern accepted, in characters. */
export const MAX_PATTERN_LENGTH = 10_000;

/** A compiled pattern. */
export interface LayerPattern {
  /** The regular expression as it was written. */
  readonly source: string;
  /** The layer name that it spells out, if it is literal all through; else null. */
  readonly exact: string | null;
  /** Length of its longest literal run; see `patternLiterals`. */
  readonly longest: number;
  /** Every name that it matches, with `.weight`, contains one text at least of each of these lists. */
  readonly required: readonly (readonly string[])[];
  /**
   * Returns whether a layer is meant: its name, with or without `.weight`, contains a match, or with
   * `fullmatch` is one.
   */
  test(layer: string, options?: { fullmatch?: boolean }): boolean;
}

/**
 * Compiles a pattern of layer names.
 *
 * @param source a regular expression of RE2.
 * @param options `place`: where it comes from, for messages: `--custom-layers`, `layer config "a"`.
 * @throws UsageError if it is empty, too long, or no regular expression of RE2.
 */
export function compileLayerPattern(
  source: string,
  { place }: { place: string },
): LayerPattern {
  const refuse = (why: string) =>
    new UsageError(`Cannot use pattern ${JSON.stringify(shorten(source))} of ${place}: ${why}`);
  if (source === "") throw refuse('it is empty; ".*" matches every layer');
  if (source.length > MAX_PATTERN_LENGTH) {
    throw refuse(`it has ${source.length} characters, at most ${MAX_PATTERN_LENGTH} are accepted`);
  }
  const { find, match } = PLAIN.test(source) ? compilePlain(source) : compileRe2(source, refuse);
  const looksAtEnd = /\$|\\[bBzZ]/.test(source);
  return {
    source,
    ...patternLiterals(source),
    test: (layer, { fullmatch = false } = {}) => {
      const matches = fullmatch ? match : find;
      const name = `${layer}.weight`;
      // A match in a name is a match in a longer name too, unless it looks at the end.
      return matches(name) || ((fullmatch || looksAtEnd) && matches(layer));
    },
  };
}

/** Whether a pattern is found in a name, and whether it matches all of it. */
interface Matcher {
  readonly find: (name: string) => boolean;
  readonly match: (name: string) => boolean;
}

/**
 * Names and pieces of names, with their dots. Without a repetition they cannot backtrack, so the
 * engine's own matcher is safe: it compiles many times faster, and templates have thousands of them.
 */
const PLAIN = /^\^?(?:[\w.-]|\\\.)*\$?$/;

function compilePlain(source: string): Matcher {
  // Most are names whose layers are found without matching.
  let found: RegExp | undefined, whole: RegExp | undefined;
  return {
    find: (name) => (found ??= new RegExp(source)).test(name),
    match: (name) => (whole ??= new RegExp(`^(?:${source})$`)).test(name),
  };
}

function compileRe2(source: string, refuse: (why: string) => UsageError): Matcher {
  try {
    const compiled = RE2JS.compile(source);
    return {
      find: (name) => compiled.test(name),
      match: (name) => compiled.testExact(name),
    };
  } catch (error) {
    if (!(error instanceof RE2JSSyntaxException)) throw error;
    const what = error.message.replace(/^error parsing regexp: /, "");
    const hint = /Perl syntax|escape sequence/.test(what)
      ? " (lookaround and backreferences are not supported)"
      : "";
    throw refuse(`${what}${hint}`);
  }
}

/** Returns a pattern that spells out `name`, readable if the name allows it. */
export function patternOfName(name: string): string {
  // A dot matches itself; the exact name is preferred to whatever else the dot might match.
  return name.replaceAll(/[\\^$*+?()[\]{}|]/g, "\\$&");
}

function shorten(text: string): string {
  return text.length <= 200 ? text : `${text.slice(0, 200)}...`;
}
