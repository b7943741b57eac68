import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { listFamilies } from "../../src/presets/registry.ts";
import { EXPECTED } from "../headers/expected.ts";

Deno.test("src/presets/README.md lists the families without a header, and no other", () => {
  const text = readFileSync(new URL("../../src/presets/README.md", import.meta.url), "utf8");
  const rows = text.split("\n").filter((line) => line.startsWith("| `"));
  const listed = rows.flatMap((row) => [...row.split("|")[1]!.matchAll(/`([^`]+)`/g)]);
  const withHeader = new Set(Object.values(EXPECTED).map(({ family }) => family));
  const without = listFamilies().map(({ id }) => id).filter((id) => !withHeader.has(id));
  assert.deepEqual(listed.map(([, id]) => id).sort(), without.sort());
});
