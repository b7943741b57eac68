import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { batchFiles } from "../../src/cli/batch_files.ts";
import { parseArgs } from "../../src/cli/parse.ts";
import { UsageError } from "../../src/core/errors.ts";
import { temporaryFolder } from "../support/model_files.ts";

function filled(names: readonly string[]) {
  const folder = temporaryFolder();
  mkdirSync(join(folder.path, "sub.safetensors"));
  for (const name of names) writeFileSync(join(folder.path, name), "{}");
  return folder;
}

function found(...args: string[]): string[] {
  return batchFiles(parseArgs(["batch", ...args])).map((path) => basename(path));
}

Deno.test("batchFiles() takes the models of a folder by name, not what is hidden or another kind", () => {
  using folder = filled(["b.safetensors", "a.safetensors", ".c.safetensors", "d.txt"]);
  assert.deepEqual(found("-d", folder.path), ["a.safetensors", "b.safetensors"]);
  assert.deepEqual(found(folder.path), ["a.safetensors", "b.safetensors"]);
  assert.deepEqual(found("-d", folder.path, "--pattern", "b*"), ["b.safetensors"]);
  assert.deepEqual(found("-i", join(folder.path, "?.safetensors")), [
    "a.safetensors",
    "b.safetensors",
  ]);
});

Deno.test("batchFiles() keeps the order of named files, and each once", () => {
  using folder = filled(["b.safetensors", "a.safetensors"]);
  const [a, b] = ["a", "b"].map((name) => join(folder.path, `${name}.safetensors`)) as [
    string,
    string,
  ];
  assert.deepEqual(found(b, a, b), ["b.safetensors", "a.safetensors"]);
  assert.deepEqual(found("-i", b, a, "--simple"), ["b.safetensors", "a.safetensors"]);
  assert.deepEqual(found(b, "-d", folder.path), ["b.safetensors", "a.safetensors"]);
});

Deno.test("batchFiles() takes shards with an index as one model", () => {
  using folder = filled(["x-1.safetensors", "x-2.safetensors", "y.safetensors"]);
  writeFileSync(
    join(folder.path, "x.safetensors.index.json"),
    JSON.stringify({ weight_map: { a: "x-1.safetensors", b: "x-2.safetensors" } }),
  );
  assert.deepEqual(found("-d", folder.path), ["x.safetensors.index.json", "y.safetensors"]);
});

Deno.test("batchFiles() refuses nothing named, a missing file, and a pattern that nothing matches", () => {
  using folder = filled(["a.safetensors"]);
  const refused = (args: string[], message: RegExp) =>
    assert.throws(() => found(...args), (error: unknown) => {
      assert.ok(error instanceof UsageError);
      assert.match(error.message, message);
      return true;
    });
  refused([], /Missing models/);
  refused([join(folder.path, "z.safetensors")], /there is no such file/);
  refused(["-d", join(folder.path, "z")], /there is none/);
  refused(["-d", folder.path, "--pattern", "z*"], /matches "z\*"/);
});
