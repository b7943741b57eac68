/**
 * Strict JSON: what `JSON.parse` accepts, less what it lets through silently. A key that occurs twice
 * hides a value, and two readers may then see two different files; nesting without end overflows the
 * stack of some engines; and `1.0` or `1e3` if a format wants an integer is refused by readers
 * that are typed. One light scan over the text finds these; the values come from `JSON.parse`.
 */

/** Subject of a {@link JsonError}. */
export type JsonFault =
  /** Not JSON: the message is the engine's. */
  | "syntax"
  /** A complete value, then something else. */
  | "trailing"
  /** A key that occurs twice in one object. */
  | "duplicate"
  /** Nested deeper than {@link MAX_DEPTH}. */
  | "depth"
  /** A number with a fraction or an exponent, if only integers are allowed. */
  | "number";

/** Text that is not strict JSON. */
export class JsonError extends SyntaxError {
  override readonly name = "JsonError";
  readonly fault: JsonFault;
  /** Character (UTF-16 unit) offset of the fault; null if the engine does not say. */
  readonly offset: number | null;
  /** The key that occurs twice. */
  readonly key: string | null;

  constructor(
    message: string,
    place: { fault: JsonFault; offset: number | null; key?: string; cause?: unknown },
  ) {
    super(message, place.cause === undefined ? undefined : { cause: place.cause });
    this.fault = place.fault;
    this.offset = place.offset;
    this.key = place.key ?? null;
  }
}

/** Deepest nesting accepted. Nothing that this program reads needs more than a handful. */
export const MAX_DEPTH = 100;

/** Objects up to this many keys are searched, larger ones hashed: most have two or three. */
const SEARCHED_KEYS = 16;

/**
 * Returns the value of a JSON text. Keys such as `__proto__` become plain own properties.
 *
 * @param text the JSON, whitespace around it allowed.
 * @param options `integersOnly`: numbers with a fraction or an exponent are refused (`1.0`, `1e3`).
 * @throws JsonError if the text is not JSON, repeats a key at any depth, or nests too deep.
 *
 * @example
 * ```ts
 * import { parseJsonStrict } from "./json.ts";
 * const value = parseJsonStrict('{"a": [1, 2]}') as { a: number[] };
 * if (value.a.length !== 2) throw new Error("unreachable");
 * ```
 */
export function parseJsonStrict(text: string, options: { integersOnly?: boolean } = {}): unknown {
  const scan = scanJson(text, null);
  // Before JSON.parse: this is what keeps it from running out of stack.
  if (scan.tooDeepAt >= 0) {
    throw new JsonError(
      `values nest more than ${MAX_DEPTH} deep at character ${scan.tooDeepAt}`,
      { fault: "depth", offset: scan.tooDeepAt },
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw syntaxError(text, scan, cause);
  }
  if (scan.duplicate !== null) {
    const { key, offset } = scan.duplicate;
    throw new JsonError(
      `the key ${JSON.stringify(key)} occurs twice, again at character ${offset}`,
      { fault: "duplicate", offset, key },
    );
  }
  if (options.integersOnly === true && scan.nonIntegerAt >= 0) {
    throw new JsonError(
      `a number is not written as an integer at character ${scan.nonIntegerAt}`,
      { fault: "number", offset: scan.nonIntegerAt },
    );
  }
  return value;
}

/**
 * Returns the character offset of the key `key` of the outermost object of a valid JSON text, or -1.
 * For error messages: it scans the text again.
 */
export function offsetOfKey(text: string, key: string): number {
  return scanJson(text, key).wantedAt;
}

/** Whether a JSON value is an object: not null, not an array. */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function syntaxError(text: string, scan: Scan, cause: unknown): JsonError {
  if (scan.end >= 0 && isJson(text.slice(0, scan.end))) {
    return new JsonError(
      `something follows the value at character ${scan.end}`,
      { fault: "trailing", offset: scan.end, cause },
    );
  }
  const said = cause instanceof Error ? cause.message : String(cause);
  // V8 names the place in most of its messages, other engines in none.
  const position = /at position (\d+)/.exec(said)?.[1];
  // The message quotes the text: no control characters from a stranger's file onto the terminal.
  return new JsonError(said.replaceAll(/\p{Cc}/gu, "?"), {
    fault: "syntax",
    offset: position === undefined ? null : Number(position),
    cause,
  });
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

/** Findings of one pass over a text. Only meaningful if `JSON.parse` accepts the text too. */
interface Scan {
  /** The first key met twice in one object. */
  duplicate: { key: string; offset: number } | null;
  tooDeepAt: number;
  nonIntegerAt: number;
  /** Offset of the key that was asked for. */
  wantedAt: number;
  /** Offset after the outermost object or array; -1 if it does not close. */
  end: number;
}

/** The keys of one open object; reused for all objects of its depth. */
interface Frame {
  isObject: boolean;
  readonly keys: string[];
  hashed: Set<string> | null;
}

const QUOTE = 0x22, COMMA = 0x2c, DOT = 0x2e, BACKSLASH = 0x5c, UPPER_E = 0x45, LOWER_E = 0x65;
const OPEN_OBJECT = 0x7b, CLOSE_OBJECT = 0x7d, OPEN_ARRAY = 0x5b, CLOSE_ARRAY = 0x5d;

function scanJson(text: string, wanted: string | null): Scan {
  const scan: Scan = { duplicate: null, tooDeepAt: -1, nonIntegerAt: -1, wantedAt: -1, end: -1 };
  const frames: Frame[] = [];
  let depth = 0;
  let expectsKey = false;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case QUOTE: {
        const end = stringEnd(text, i);
        if (end < 0) return scan; // unterminated: JSON.parse says so
        if (expectsKey) {
          expectsKey = false;
          const key = keyOf(text, i, end);
          if (key === null) return scan; // a bad escape: JSON.parse says so
          if (depth === 1 && key === wanted) {
            scan.wantedAt = i;
            return scan;
          }
          if (scan.duplicate === null && !addKey(frames[depth - 1]!, key)) {
            scan.duplicate = { key, offset: i };
          }
        }
        i = end;
        break;
      }
      case OPEN_OBJECT:
      case OPEN_ARRAY: {
        if (depth === MAX_DEPTH) {
          scan.tooDeepAt = i;
          return scan;
        }
        expectsKey = text.charCodeAt(i) === OPEN_OBJECT;
        frames[depth] = openFrame(frames[depth], expectsKey);
        depth++;
        break;
      }
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        expectsKey = false;
        if (--depth <= 0) {
          scan.end = i + 1;
          return scan;
        }
        break;
      case COMMA:
        expectsKey = depth > 0 && frames[depth - 1]!.isObject;
        break;
      case DOT:
        if (scan.nonIntegerAt < 0) scan.nonIntegerAt = i;
        break;
      case LOWER_E:
      case UPPER_E: // of a number, not of `true` or `false`
        if (scan.nonIntegerAt < 0 && isDigit(text.charCodeAt(i - 1))) scan.nonIntegerAt = i;
        break;
    }
  }
  return scan;
}

/** Returns `used` once more, empty; or a new one. */
function openFrame(used: Frame | undefined, isObject: boolean): Frame {
  const frame = used ?? { isObject, keys: [], hashed: null };
  frame.isObject = isObject;
  frame.keys.length = 0;
  frame.hashed = null;
  return frame;
}

/** Returns the offset of the quote that closes the string opened at `start`, or -1. */
function stringEnd(text: string, start: number): number {
  for (let quote = text.indexOf('"', start + 1); quote >= 0; quote = text.indexOf('"', quote + 1)) {
    let slashes = 0;
    while (text.charCodeAt(quote - 1 - slashes) === BACKSLASH) slashes++;
    if (slashes % 2 === 0) return quote;
  }
  return -1;
}

/** Returns the key whose quotes are at `start` and `end`, unescaped; null if an escape is bad. */
function keyOf(text: string, start: number, end: number): string | null {
  const raw = text.slice(start + 1, end);
  if (!raw.includes("\\")) return raw;
  const quoted = text.slice(start, end + 1);
  return isJson(quoted) ? JSON.parse(quoted) as string : null;
}

/** Adds `key` to an open object; false if it has it already. */
function addKey(frame: Frame, key: string): boolean {
  if (frame.hashed !== null) {
    if (frame.hashed.has(key)) return false;
    frame.hashed.add(key);
    return true;
  }
  if (frame.keys.includes(key)) return false;
  frame.keys.push(key);
  if (frame.keys.length === SEARCHED_KEYS) frame.hashed = new Set(frame.keys);
  return true;
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}
