/** `docs/manual.md` says what the flag table says. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { FLAGS } from "../../src/cli/flags/table.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

Deno.test("gen_manual --check finds docs/manual.md up to date", () => {
  const { status, stderr } = spawnSync(
    process.execPath,
    ["run", "-A", "scripts/gen_manual.ts", "--check"],
    { cwd: ROOT, encoding: "utf8" },
  );
  assert.equal(status, 0, stderr);
});

Deno.test("docs/manual.md names every flag", () => {
  const text = fs.readFileSync(new URL("../../docs/manual.md", import.meta.url), "utf8");
  for (const { name } of FLAGS) {
    assert.match(text, new RegExp(`--(\\[no-\\])?${name}[\`, ]`), name);
  }
});
