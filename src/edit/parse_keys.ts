/**
 * Reads what `--remove-keys` and `--add-keys` hold. Keys to add are written as in a Python dictionary
 * or as JSON: `'full_precision_matrix_mult': true, "group_size": 64`, braces around them or not.
 */

import { UsageError } from "../core/errors.ts";

/** Deepest nesting of a value. */
const MAX_DEPTH = 20;

const WORDS: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ["true", true],
  ["True", true],
  ["false", false],
  ["False", false],
  ["null", null],
  ["None", null],
]);

/**
 * Returns the names in a list separated by commas.
 *
 * @throws UsageError if one is empty or occurs twice.
 */
export function parseKeyList(text: string): string[] {
  const keys = text.split(",").map((key) => key.trim());
  // "a,b," is what a line joined by a script ends with.
  if (keys.length > 1 && keys.at(-1) === "") keys.pop();
  const twice = keys.find((key, index) => keys.indexOf(key) !== index);
  if (keys.includes("")) {
    throw new UsageError(`Cannot use --remove-keys ${JSON.stringify(text)}: a name in it is empty`);
  }
  if (twice !== undefined) {
    throw new UsageError(
      `Cannot use --remove-keys ${JSON.stringify(text)}: it names ${JSON.stringify(twice)} twice`,
    );
  }
  return keys;
}

/**
 * Returns the keys and values of a dictionary, in order.
 *
 * @throws UsageError naming the character if it cannot be read, or a key that occurs twice.
 */
export function parseAddKeys(text: string): Map<string, unknown> {
  const reader = new Reader(text);
  const isBraced = reader.take("{");
  const members = reader.members(isBraced ? "}" : "", 0);
  reader.end();
  if (members.size === 0) reader.fail("it holds no key");
  return members;
}

/** A recursive-descent reader of literals. */
class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  fail(why: string): never {
    throw new UsageError(
      `Cannot use --add-keys ${JSON.stringify(this.#text)}, character ${this.#at + 1}: ${why}`,
    );
  }

  /** Takes `mark` if it comes next, after white space. */
  take(mark: string): boolean {
    this.#space();
    if (!this.#text.startsWith(mark, this.#at)) return false;
    this.#at += mark.length;
    return true;
  }

  end(): void {
    this.#space();
    if (this.#at < this.#text.length) {
      this.fail(`${JSON.stringify(this.#text[this.#at])} was not expected; pairs are key: value`);
    }
  }

  /** `key: value, ...` up to `close`, which is taken; up to the end if it is empty. */
  members(close: string, depth: number): Map<string, unknown> {
    const members = new Map<string, unknown>();
    while (!this.#closes(close)) {
      const key = this.#key();
      if (members.has(key)) this.fail(`the key ${JSON.stringify(key)} occurs twice`);
      if (!this.take(":") && !this.take("=")) {
        this.fail(`a colon and a value must follow the key ${JSON.stringify(key)}`);
      }
      members.set(key, this.#value(depth + 1));
      if (!this.take(",") && !this.#closes(close)) this.#missing(close);
    }
    if (close !== "") this.take(close);
    return members;
  }

  #items(depth: number): unknown[] {
    const items: unknown[] = [];
    while (!this.#closes("]")) {
      items.push(this.#value(depth + 1));
      if (!this.take(",") && !this.#closes("]")) this.#missing("]");
    }
    this.take("]");
    return items;
  }

  #missing(close: string): never {
    return this.fail(`a comma${close === "" ? "" : ` or ${close}`} is missing`);
  }

  #closes(close: string): boolean {
    this.#space();
    return close === "" ? this.#at >= this.#text.length : this.#text.startsWith(close, this.#at);
  }

  #key(): string {
    const quoted = this.#quoted();
    if (quoted !== null) {
      if (quoted === "") this.fail("a key is empty");
      return quoted;
    }
    return this.#match(/[A-Za-z_][\w.-]*/y) ?? this.fail("a key is missing");
  }

  #value(depth: number): unknown {
    if (depth > MAX_DEPTH) this.fail(`values nest deeper than ${MAX_DEPTH}`);
    const quoted = this.#quoted();
    if (quoted !== null) return quoted;
    if (this.take("{")) return Object.fromEntries(this.members("}", depth));
    if (this.take("[")) return this.#items(depth);
    this.#space();
    const start = this.#at;
    const word = this.#match(/[^\s,:{}[\]"']+/y);
    if (word === null) return this.fail("a value is missing");
    if (WORDS.has(word)) return WORDS.get(word);
    const number = /^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/.test(word) ? Number(word) : NaN;
    if (Number.isFinite(number)) return number;
    this.#at = start;
    return this.fail(
      `${JSON.stringify(word)} is no value; texts stand in quotes: ${JSON.stringify(word)}`,
    );
  }

  /** A text in single or double quotes, with the escapes of JSON and `\'`; null if none begins. */
  #quoted(): string | null {
    this.#space();
    const quote = this.#text[this.#at];
    if (quote !== '"' && quote !== "'") return null;
    const raw = this.#match(quote === '"' ? /"(?:[^"\\]|\\.)*"/ys : /'(?:[^'\\]|\\.)*'/ys);
    if (raw === null) return this.fail("its quote is not closed");
    const json = raw.slice(1, -1)
      .replaceAll(/\\.|"/gs, (part) => part === "\\'" ? "'" : part === '"' ? '\\"' : part);
    try {
      return JSON.parse(`"${json}"`);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return this.fail(`${raw} before it is no text of JSON`);
    }
  }

  #match(pattern: RegExp): string | null {
    this.#space();
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0] ?? null;
    this.#at += found?.length ?? 0;
    return found;
  }

  #space(): void {
    while (/\s/.test(this.#text[this.#at] ?? "")) this.#at++;
  }
}
