/**
 * Packs the headers of real checkpoints (names, dtypes, shapes; no weights) into
 * `tests/headers/headers.json.gz`, with what is known of each.
 *
 *     deno run -A scripts/pack_headers.ts FOLDER
 *
 * FOLDER holds one `NAME.json` per checkpoint, `{"tensors": {name: [dtype, shape]}}`, and an `INDEX.md`
 * with a table whose columns `name`, `src`, `rule` and `I8/F8` say where the header is from, how many
 * layers the official rule quantizes, and how many 2-D weights are quantized already.
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { gzipSync } from "node:zlib";

/** The columns of INDEX.md that are kept. */
interface IndexRow {
  readonly src: string;
  readonly rule: number;
  readonly quantized: number;
}

function readIndex(path: string): Map<string, IndexRow> {
  const rows = readFileSync(path, "utf8").split("\n")
    .filter((line) => line.startsWith("| "))
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
  const head = rows.shift() ?? [];
  const column = (name: string) => {
    const index = head.indexOf(name);
    if (index < 0) throw new SyntaxError(`Cannot read "${path}": no column "${name}"`);
    return index;
  };
  const [name, src, rule, quantized] = ["name", "src", "rule", "I8/F8"].map(column);
  return new Map(rows.map((row) => [row[name!]!, {
    src: row[src!]!,
    rule: Number(row[rule!]),
    quantized: Number(row[quantized!]),
  }]));
}

const folder = process.argv[2];
if (folder === undefined) throw new TypeError("Usage: deno run -A scripts/pack_headers.ts FOLDER");
const index = readIndex(join(folder, "INDEX.md"));
const headers = readdirSync(folder).filter((file) => file.endsWith(".json")).sort().map((file) => {
  const name = file.slice(0, -".json".length);
  const facts = index.get(name);
  if (facts === undefined) throw new Error(`Cannot pack "${file}": not in INDEX.md`);
  const { tensors } = JSON.parse(readFileSync(join(folder, file), "utf8"));
  return { name, ...facts, tensors };
});
const packed = gzipSync(JSON.stringify(headers), { level: 9 });
const target = join(import.meta.dirname!, "..", "tests", "headers", "headers.json.gz");
writeFileSync(target, packed);
console.log(`${headers.length} headers, ${packed.length} bytes`);
