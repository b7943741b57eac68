/**
 * The packed headers of real checkpoints (`tests/headers/headers.json.gz`): what one of them holds, and
 * how more are added to those that are there.
 */

import { gunzipSync, gzipSync } from "node:zlib";

/** One packed header. */
export interface PackedHeader {
  readonly name: string;
  /** `dump`: captured from a file; `generated`: built from the published configuration. */
  readonly src: string;
  /** Number of layers that the official rule quantizes. */
  readonly rule: number;
  /** Number of 2-D weights that are I8 or F8 already. */
  readonly quantized: number;
  readonly tensors: Readonly<Record<string, readonly [string, readonly number[]]>>;
}

/** Facts of a header beside its tensors. */
export type HeaderFacts = Pick<PackedHeader, "src" | "rule">;

/**
 * Returns a header from the text of its file `NAME.json`: `{"tensors": {name: [dtype, shape]}}`, and
 * `src` and `rule`, which `facts` may give instead.
 *
 * @throws SyntaxError if a part is missing or of the wrong kind.
 */
export function headerOf(name: string, json: string, facts?: HeaderFacts): PackedHeader {
  const refuse = (why: string): never => {
    throw new SyntaxError(`Cannot pack "${name}.json": ${why}`);
  };
  const { tensors, src = facts?.src, rule = facts?.rule } = JSON.parse(json);
  if (typeof tensors !== "object" || tensors === null) refuse('it has no "tensors"');
  if (src !== "dump" && src !== "generated") {
    refuse('"src" must be "dump" (captured from a file) or "generated" (from a configuration)');
  }
  if (!Number.isInteger(rule) || rule < 0) {
    refuse(
      '"rule" must be the number of layers that the official rule quantizes, counted from what is ' +
        "published of the model, not by this program",
    );
  }
  for (const [tensor, entry] of Object.entries(tensors)) {
    const isEntry = Array.isArray(entry) && typeof entry[0] === "string" && Array.isArray(entry[1]);
    if (!isEntry) refuse(`tensor "${tensor}" is not [dtype, shape]`);
  }
  const quantized = Object.entries(tensors as PackedHeader["tensors"])
    .filter(([tensor, [dtype, shape]]) =>
      tensor.endsWith(".weight") && shape.length === 2 && /^(I8|F8_)/.test(dtype)
    ).length;
  return { name, src, rule, quantized, tensors };
}

/** Returns both lists as one, by name; of two headers of the same name the added one counts. */
export function addHeaders(
  packed: readonly PackedHeader[],
  added: readonly PackedHeader[],
): PackedHeader[] {
  const all = new Map([...packed, ...added].map((header) => [header.name, header]));
  return [...all.values()].sort((a, b) => a.name < b.name ? -1 : 1);
}

/** Returns the bytes of a packed list. */
export function packHeaders(headers: readonly PackedHeader[]): Uint8Array {
  return gzipSync(JSON.stringify(headers), { level: 9 });
}

/** Returns the headers of a packed list. */
export function unpackHeaders(bytes: Uint8Array): PackedHeader[] {
  return JSON.parse(gunzipSync(bytes).toString());
}

/**
 * Returns what an `INDEX.md` says of headers: a table with the columns `name`, `src` and `rule`.
 *
 * @throws SyntaxError if a column is missing.
 */
export function factsOfIndex(markdown: string): Map<string, HeaderFacts> {
  const rows = markdown.split("\n")
    .filter((line) => line.startsWith("| "))
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
  const head = rows.shift() ?? [];
  const column = (name: string) => {
    const index = head.indexOf(name);
    if (index < 0) throw new SyntaxError(`Cannot read INDEX.md: no column "${name}"`);
    return index;
  };
  const [name, src, rule] = ["name", "src", "rule"].map(column);
  return new Map(
    rows.map((row) => [row[name!]!, { src: row[src!]!, rule: Number(row[rule!]) }]),
  );
}
