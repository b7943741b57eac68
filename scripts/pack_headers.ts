/**
 * Adds the headers of real checkpoints (names, dtypes, shapes; no weights) to those packed in
 * `tests/headers/headers.json.gz`.
 *
 *     deno run -A scripts/pack_headers.ts NAME.json ... | FOLDER
 *
 * A file holds `{"src": "dump" | "generated", "rule": N, "tensors": {name: [dtype, shape]}}`: where the
 * header is from and how many layers the official rule quantizes. In a FOLDER of such files an
 * `INDEX.md` with the columns `name`, `src` and `rule` may say it instead. A header whose name is packed
 * already is replaced; all others stay.
 */

import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import {
  addHeaders,
  factsOfIndex,
  headerOf,
  packHeaders,
  unpackHeaders,
} from "./support/header_pack.ts";

const places = process.argv.slice(2);
if (places.length === 0) {
  throw new TypeError("Usage: deno run -A scripts/pack_headers.ts NAME.json ... | FOLDER");
}
const paths = places.flatMap((place) =>
  statSync(place).isDirectory()
    ? readdirSync(place).filter((file) => file.endsWith(".json")).map((file) => join(place, file))
    : [place]
);
const added = paths.map((path) => {
  const name = basename(path, ".json");
  const index = join(dirname(path), "INDEX.md");
  const facts = existsSync(index) ? factsOfIndex(readFileSync(index, "utf8")).get(name) : undefined;
  return headerOf(name, readFileSync(path, "utf8"), facts);
});
const target = join(import.meta.dirname!, "..", "tests", "headers", "headers.json.gz");
const packed = unpackHeaders(readFileSync(target));
const headers = addHeaders(packed, added);
const bytes = packHeaders(headers);
writeFileSync(target, bytes);
const fresh = headers.length - packed.length;
console.log(
  `${fresh} added, ${added.length - fresh} replaced, ${headers.length} headers in all, ` +
    `${bytes.length} bytes`,
);
