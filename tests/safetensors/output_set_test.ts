import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { UnsupportedError } from "../../src/core/errors.ts";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { hiddenName } from "../../src/safetensors/output_file.ts";
import { OutputSet } from "../../src/safetensors/output_set.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { layoutOutput } from "../../src/safetensors/shard_layout.ts";
import { TempFolder } from "../support/header_fixtures.ts";

const TENSORS: readonly TensorInfo[] = ["a", "b", "c"].map((name) => ({
  name: `${name}.weight`,
  dtype: "U8",
  shape: [100],
}));
const LAYOUT = layoutOutput(TENSORS, null, { shardBytes: 120 });
const NAMES = [
  "m-00001-of-00003.safetensors",
  "m-00002-of-00003.safetensors",
  "m-00003-of-00003.safetensors",
  "m.safetensors.index.json",
];

function fill(output: OutputSet): void {
  LAYOUT.entries.forEach(({ offsetBytes }, i) => {
    output.write(new Uint8Array(100).fill(i + 1), offsetBytes);
  });
}

Deno.test("OutputSet appears as shards with their index on commit(), each byte in its file", () => {
  using folder = new TempFolder();
  using output = OutputSet.create(join(folder.path, "m.safetensors"), LAYOUT, { force: false });
  fill(output);
  assert(readdirSync(folder.path).every((name) => name.endsWith(".partial")));
  output.commit();
  assert.deepEqual(readdirSync(folder.path).sort(), NAMES);
  const model = openModel(output.path);
  assert.deepEqual(model.tensors.map(({ name }) => name), TENSORS.map(({ name }) => name));
  model.tensors.forEach(({ file, offsetBytes }, i) => {
    const bytes = readFileSync(model.paths[file] as string).subarray(
      offsetBytes,
      offsetBytes + 100,
    );
    assert(bytes.every((byte) => byte === i + 1));
  });
});

Deno.test("OutputSet leaves nothing behind when it is disposed uncommitted", () => {
  using folder = new TempFolder();
  {
    using output = OutputSet.create(join(folder.path, "m.safetensors"), LAYOUT, { force: false });
    fill(output);
  }
  assert.deepEqual(readdirSync(folder.path), []);
});

Deno.test("OutputSet.create() refuses where any of its files exists, and touches nothing", () => {
  for (const name of NAMES) {
    using folder = new TempFolder();
    folder.write(name, "before");
    const create = () =>
      OutputSet.create(join(folder.path, "m.safetensors"), LAYOUT, { force: false });
    assert.throws(
      create,
      (error) => error instanceof UnsupportedError && error.message.includes(name),
    );
    assert.deepEqual(readdirSync(folder.path), [name]);
  }
});

Deno.test("OutputSet.commit() replaces the shards and the index of before with force", () => {
  using folder = new TempFolder();
  for (const name of NAMES) folder.write(name, "before");
  using output = OutputSet.create(join(folder.path, "m.safetensors"), LAYOUT, { force: true });
  fill(output);
  assert(NAMES.every((name) => readFileSync(join(folder.path, name), "utf8") === "before"));
  output.commit();
  assert.equal(openModel(output.path).tensors.length, 3);
  assert.deepEqual(readdirSync(folder.path).sort(), NAMES);
});

Deno.test("OutputSet.commit() gives no file its name where one has come up meanwhile", () => {
  using folder = new TempFolder();
  {
    using output = OutputSet.create(join(folder.path, "m.safetensors"), LAYOUT, { force: false });
    fill(output);
    folder.write(NAMES[2]!, "another's");
    assert.throws(() => output.commit(), UnsupportedError);
  }
  assert.deepEqual(readdirSync(folder.path), [NAMES[2]]);
});

Deno.test("OutputSet.commit() takes names back where a later file cannot be renamed", () => {
  using folder = new TempFolder();
  {
    using output = OutputSet.create(join(folder.path, "m.safetensors"), LAYOUT, { force: true });
    fill(output);
    // A folder cannot be replaced by a file.
    mkdirSync(join(folder.path, NAMES[2]!));
    writeFileSync(join(folder.path, NAMES[2]!, "x"), "");
    assert.throws(() => output.commit());
    assert(!existsSync(join(folder.path, NAMES[0]!)));
  }
  assert.deepEqual(readdirSync(folder.path), [NAMES[2]]);
});

Deno.test("OutputSet.write() throws beyond the last file and across the end of one", () => {
  using folder = new TempFolder();
  using output = OutputSet.create(join(folder.path, "m.safetensors"), LAYOUT, { force: false });
  const first = LAYOUT.parts[0]!.totalBytes;
  assert.throws(() => output.write(Uint8Array.of(1, 2), first - 1), RangeError);
  assert.throws(() => output.write(Uint8Array.of(1), LAYOUT.totalBytes), RangeError);
});

Deno.test("OutputSet.undoHalfCommit() takes names back that a killed process had given, and no others", () => {
  const pathOf = (path: string) => hiddenName(path, ".partial");
  for (let killedAfter = 0; killedAfter <= NAMES.length; killedAfter++) {
    using folder = new TempFolder();
    const path = join(folder.path, "m.safetensors");
    const options = { force: false, partial: { pathOf, reuse: false } };
    const output = OutputSet.create(path, LAYOUT, options);
    fill(output);
    output.commit();
    // As it was when the process was killed.
    for (const name of NAMES.slice(killedAfter)) {
      renameSync(join(folder.path, name), pathOf(join(folder.path, name)));
    }
    OutputSet.undoHalfCommit(path, 3, pathOf);
    const left = readdirSync(folder.path).sort();
    if (killedAfter === NAMES.length) {
      assert.deepEqual(left, NAMES);
      continue;
    }
    assert.deepEqual(left, NAMES.slice(0, 3).map((name) => `.${name}.partial`));
    using again = OutputSet.create(path, LAYOUT, { ...options, partial: { pathOf, reuse: true } });
    again.commit();
    const model = openModel(again.path);
    model.tensors.forEach(({ file, offsetBytes }, i) => {
      const bytes = readFileSync(model.paths[file] as string).subarray(offsetBytes);
      assert(bytes.every((byte) => byte === i + 1));
    });
  }
});
