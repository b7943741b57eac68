/** `docs/manual.md` and the man page say what the flag table says. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { COMMANDS } from "../../src/cli/flags/flag.ts";
import { FLAGS } from "../../src/cli/flags/table.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

for (const [script, page] of [["gen_manual", "manual.md"], ["gen_man", "quantsmith.1"]] as const) {
  Deno.test(`${script} --check finds docs/${page} up to date`, () => {
    const { status, stderr } = spawnSync(
      process.execPath,
      ["run", "-A", `scripts/${script}.ts`, "--check"],
      { cwd: ROOT, encoding: "utf8" },
    );
    assert.equal(status, 0, stderr);
  });
}

Deno.test("the man page names every flag and subcommand", () => {
  const text = fs.readFileSync(new URL("../../docs/quantsmith.1", import.meta.url), "utf8")
    .replaceAll("\\-", "-");
  for (const { name } of FLAGS) {
    assert.match(text, new RegExp(`--(\\[no-\\])?${name}( |,|\\[|$)`, "m"), name);
  }
  for (const name of COMMANDS.slice(1)) assert.match(text, new RegExp(`^\\.B ${name}`, "m"), name);
});

Deno.test("docs/manual.md names every flag", () => {
  const text = fs.readFileSync(new URL("../../docs/manual.md", import.meta.url), "utf8");
  for (const { name } of FLAGS) {
    assert.match(text, new RegExp(`--(\\[no-\\])?${name}[\`, ]`), name);
  }
});
