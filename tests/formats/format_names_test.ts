import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FORMATS } from "../../src/formats/registry.ts";

const SRC = fileURLToPath(new URL("../../src/", import.meta.url));

/** Code without its comments: names in them explain, names in code decide. */
function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "");
}

Deno.test("no code outside src/formats names a format", () => {
  const ids = FORMATS.map(({ id }) => id);
  const named = readdirSync(SRC, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !file.startsWith("formats"))
    .flatMap((file) => {
      const words = new Set(withoutComments(readFileSync(join(SRC, file), "utf8")).match(/\w+/g));
      return ids.filter((id) => words.has(id)).map((id) => `${file}: ${id}`);
    });
  assert.deepEqual(named, []);
});
