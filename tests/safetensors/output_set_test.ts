import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { UnsupportedError } from "../../src/core/errors.ts";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { hiddenName, OutputFile } from "../../src/safetensors/output_file.ts";
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
  [...model.tensors].forEach(({ file, offsetBytes }, i) => {
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

Deno.test("OutputSet.create() refuses if any of its files exists, and touches nothing", () => {
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

Deno.test("OutputSet.commit() gives no file its name if one has come up meanwhile", () => {
  using folder = new TempFolder();
  {
    using output = OutputSet.create(join(folder.path, "m.safetensors"), LAYOUT, { force: false });
    fill(output);
    folder.write(NAMES[2]!, "another's");
    assert.throws(() => output.commit(), UnsupportedError);
  }
  assert.deepEqual(readdirSync(folder.path), [NAMES[2]]);
});

Deno.test("OutputSet.commit() takes names back if a later file cannot be renamed", () => {
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
    OutputSet.undoHalfCommit(`${path}.index.json`);
    const left = readdirSync(folder.path).sort();
    if (killedAfter === NAMES.length) {
      assert.deepEqual(left, NAMES);
      continue;
    }
    assert.deepEqual(left, NAMES.slice(0, 3).map((name) => `.${name}.partial`));
    using again = OutputSet.create(path, LAYOUT, { ...options, partial: { pathOf, reuse: true } });
    again.commit();
    const model = openModel(again.path);
    [...model.tensors].forEach(({ file, offsetBytes }, i) => {
      const bytes = readFileSync(model.paths[file] as string).subarray(offsetBytes);
      assert(bytes.every((byte) => byte === i + 1));
    });
  }
});

/** The same tensors in two shards. */
const FEWER = layoutOutput(TENSORS, null, { shardBytes: 450 });
const FEWER_NAMES = [
  "m-00001-of-00002.safetensors",
  "m-00002-of-00002.safetensors",
  "m.safetensors.index.json",
];

/** Writes the three shards, or those of another layout, over the files that are there; returns the messages. */
function write(folder: TempFolder, layout = LAYOUT) {
  const path = join(folder.path, "m.safetensors");
  using output = OutputSet.create(path, layout, { force: true });
  return output.commit();
}

/** All files of the folder, with what is in them. */
function filesOf({ path }: TempFolder): Record<string, string> {
  return Object.fromEntries(
    readdirSync(path).sort().map((name) => [name, readFileSync(join(path, name), "latin1")]),
  );
}

Deno.test("OutputSet.commit() removes the shards that only the replaced index names, and nothing else", () => {
  using folder = new TempFolder();
  assert.deepEqual(write(folder), { removed: [], left: [] });
  const others = ["m-00001-of-00009.safetensors", "m.safetensors", "n-00001-of-00003.safetensors"];
  for (const name of [...others, "shared.safetensors"]) folder.write(name, "another's");
  const index = join(folder.path, NAMES[3]!);
  const said = JSON.parse(readFileSync(index, "utf8"));
  said.weight_map.d = "shared.safetensors";
  said.weight_map.e = "gone.safetensors";
  writeFileSync(index, JSON.stringify(said));
  assert.deepEqual(write(folder, FEWER), {
    removed: NAMES.slice(0, 3),
    left: [{ name: "shared.safetensors", why: "its name is of another model" }],
  });
  const all = [...FEWER_NAMES, ...others, "shared.safetensors"];
  assert.deepEqual(Object.keys(filesOf(folder)), all.sort());
  assert.equal(openModel(index).tensors.length, 3);
  // As many as before: all are replaced.
  assert.deepEqual(write(folder, FEWER), { removed: [], left: [] });
  assert.deepEqual(Object.keys(filesOf(folder)), all);
});

Deno.test("OutputSet.commit() leaves no moment without an index, and none whose index names a missing shard", () => {
  using folder = new TempFolder();
  const index = join(folder.path, NAMES[3]!);
  let steps = 0, inPlace = 0;
  const check = () => {
    steps++;
    if (!existsSync(index)) return;
    inPlace++;
    assert.equal(openModel(index).tensors.length, 3);
  };
  const commit = OutputFile.prototype.commit;
  OutputFile.prototype.commit = function () {
    check();
    commit.call(this);
    check();
  };
  try {
    for (const layout of [LAYOUT, FEWER, FEWER, LAYOUT]) write(folder, layout);
  } finally {
    OutputFile.prototype.commit = commit;
  }
  assert.deepEqual(Object.keys(filesOf(folder)), NAMES);
  // From the first one on there always is an index.
  assert.deepEqual([steps, inPlace], [8 + 6 + 8 + 8, 1 + 6 + 8 + 8]);
});

Deno.test("OutputSet.commit() leaves the output of before whole if it fails", () => {
  using folder = new TempFolder();
  write(folder);
  for (const layout of [LAYOUT, FEWER]) {
    const before = filesOf(folder);
    const commit = OutputFile.prototype.commit;
    OutputFile.prototype.commit = function () {
      // The last shard with another number of them, the first if it would replace one.
      if (layout === LAYOUT || this.path.includes("00002")) throw new Error("the disk is gone");
      commit.call(this);
    };
    try {
      assert.throws(() => write(folder, layout), /the disk is gone/);
    } finally {
      OutputFile.prototype.commit = commit;
    }
    assert.deepEqual(filesOf(folder), before);
  }
});

Deno.test("OutputSet.commit() removes what a run that was killed did not come to", () => {
  for (let killedAfter = 0; killedAfter <= 5; killedAfter++) {
    using folder = new TempFolder();
    write(folder);
    const at = (name: string) => join(folder.path, name);
    const before = filesOf(folder);
    // Copy of the index, two shards, the index, two shards of before removed.
    if (killedAfter >= 0) folder.write(`.${NAMES[3]}.replaced`, before[NAMES[3]!]!);
    using fresh = new TempFolder();
    write(fresh, FEWER);
    for (const name of FEWER_NAMES.slice(0, killedAfter)) {
      folder.write(name, Buffer.from(filesOf(fresh)[name]!, "latin1"));
    }
    for (const name of NAMES.slice(0, Math.max(0, killedAfter - 3))) rmSync(at(name));
    assert.equal(openModel(at(NAMES[3]!)).tensors.length, 3);
    write(folder, FEWER);
    assert.deepEqual(Object.keys(filesOf(folder)), FEWER_NAMES, `killed after ${killedAfter}`);
  }
});

Deno.test("OutputSet.commit() removes what was left of an output whose index was gone when it was killed", () => {
  using folder = new TempFolder();
  write(folder);
  const index = join(folder.path, NAMES[3]!);
  renameSync(index, join(folder.path, `.${NAMES[3]}.replaced`));
  assert.deepEqual(write(folder, FEWER).removed, NAMES.slice(0, 3));
  assert.deepEqual(Object.keys(filesOf(folder)), FEWER_NAMES);
});

Deno.test("OutputSet.commit() replaces an index that cannot be read, and removes no shards for it", () => {
  using folder = new TempFolder();
  write(folder);
  folder.write(NAMES[3]!, "{");
  assert.deepEqual(write(folder, FEWER), { removed: [], left: [] });
  assert.deepEqual(Object.keys(filesOf(folder)), [...NAMES.slice(0, 3), ...FEWER_NAMES].sort());
});
