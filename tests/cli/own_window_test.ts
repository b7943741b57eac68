import assert from "node:assert/strict";
import {
  argsOfDrop,
  hasOwnWindow,
  type ProcessFacts,
  programInCsv,
} from "../../src/cli/own_window.ts";
import { parseArgs } from "../../src/cli/parse.ts";

const DROPPED: ProcessFacts = {
  platform: "win32",
  args: ["C:\\models\\flux dev.safetensors"],
  isConsole: true,
  parent: () => "explorer.exe",
  exists: () => true,
};

Deno.test("hasOwnWindow() is true for a drop and a double click on Windows only", () => {
  assert.equal(hasOwnWindow(DROPPED), true);
  assert.equal(hasOwnWindow({ ...DROPPED, args: [] }), true);
  assert.equal(hasOwnWindow({ ...DROPPED, parent: () => "Explorer.EXE" }), true);
  for (
    const other of [
      { platform: "linux" },
      { isConsole: false },
      { parent: () => "cmd.exe" },
      { parent: () => null },
      { args: ["model.safetensors"] },
      { args: ["C:\\models\\m.safetensors", "--dry-run"] },
      { exists: () => false },
    ]
  ) {
    assert.equal(hasOwnWindow({ ...DROPPED, ...other }), false, JSON.stringify(other));
  }
});

Deno.test("hasOwnWindow() asks for the parent only if everything else fits", () => {
  const parent = () => assert.fail("asked");
  assert.equal(hasOwnWindow({ ...DROPPED, platform: "darwin", parent }), false);
  assert.equal(hasOwnWindow({ ...DROPPED, args: ["inspect"], parent }), false);
});

Deno.test("argsOfDrop() makes a batch of several models, and nothing else of one", () => {
  assert.deepEqual(argsOfDrop(DROPPED.args), DROPPED.args);
  const two = argsOfDrop(["C:\\a.safetensors", "C:\\b.safetensors"]);
  const parsed = parseArgs(two);
  assert.equal(parsed.command, "batch");
  assert.equal(parsed.bool("yes"), true);
  assert.deepEqual(parsed.positionals, ["C:\\a.safetensors", "C:\\b.safetensors"]);
});

Deno.test("programInCsv() reads what tasklist prints", () => {
  const line = '"explorer.exe","4242","Console","1","123.456 K"\r\n';
  assert.equal(programInCsv(line), "explorer.exe");
  assert.equal(
    programInCsv("INFO: No tasks are running which match the specified criteria."),
    null,
  );
});
