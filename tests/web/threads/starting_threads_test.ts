import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const WEB = fileURLToPath(new URL("../../../web", import.meta.url));

// In Firefox a worker that starts a worker can wait for ever: rarely, and more often the busier the machine is.
Deno.test("threads of a page are started by the page, none by another thread", () => {
  const files = readdirSync(WEB, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"));
  const starting = files.filter((name) =>
    /new (globalThis\.)?Worker\(/.test(readFileSync(join(WEB, name), "utf8"))
  );
  assert.deepEqual(starting, ["convert.ts"]);
  const inThreads = files.filter((name) =>
    /from "(\.\.?\/)+convert\.ts"/.test(readFileSync(join(WEB, name), "utf8"))
  );
  assert.deepEqual(inThreads.filter((name) => !name.startsWith("page/")), []);
});
