import assert from "node:assert/strict";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { UnsupportedError } from "../../src/core/errors.ts";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { checkOutput, recoverNames } from "../../src/safetensors/leftovers.ts";
import { LockedOutput } from "../../src/safetensors/locked_output.ts";
import { hiddenName } from "../../src/safetensors/output_file.ts";
import { OutputLock } from "../../src/safetensors/output_lock.ts";
import { OutputSet } from "../../src/safetensors/output_set.ts";
import { openModel } from "../../src/safetensors/reader.ts";
import { layoutOutput, type OutputLayout } from "../../src/safetensors/shard_layout.ts";
import { TempFolder } from "../support/header_fixtures.ts";

const TIMES = { touchMs: 5, watchMs: 30 };
const WHOLE = { header: new Uint8Array(16), totalBytes: 40 };

function layoutOf(count: number): OutputLayout {
  const tensors: TensorInfo[] = Array.from({ length: count }, (_, i) => ({
    name: `${i}.weight`,
    dtype: "U8",
    shape: [100],
  }));
  return layoutOutput(tensors, null, { shardBytes: count === 1 ? null : 120 });
}

/** Writes an output whose bytes are all `value`, and returns it before it is committed. */
function filled(folder: TempFolder, count: number, value: number): OutputSet {
  const layout = layoutOf(count);
  const pathOf = (path: string) => hiddenName(path, ".partial");
  const set = OutputSet.create(join(folder.path, "m.safetensors"), layout, {
    force: true,
    partial: { pathOf, reuse: false },
  });
  for (const { offsetBytes } of layout.entries) {
    set.write(new Uint8Array(100).fill(value), offsetBytes);
  }
  return set;
}

/** The one value of all tensors of a model. */
function valueOf(path: string): number {
  const model = openModel(path);
  const values = new Set(
    model.tensors.flatMap(({ file, offsetBytes }) => [
      ...readFileSync(model.paths[file] as string).subarray(offsetBytes, offsetBytes + 100),
    ]),
  );
  assert.equal(values.size, 1, "the shards are those of one model");
  return [...values][0]!;
}

const SHARDS = [
  "m-00001-of-00003.safetensors",
  "m-00002-of-00003.safetensors",
  "m-00003-of-00003.safetensors",
  "m.safetensors.index.json",
];

Deno.test("OutputSet.commit() replaces shards of the same names with a whole model in place wherever it breaks off", async () => {
  // Renaming fails at a folder: at the first shard, the second, the third, and at the first link.
  const places = [...SHARDS.slice(0, 3), ".m-00002-of-00003.new.safetensors"];
  for (const place of places) {
    using folder = new TempFolder();
    const index = join(folder.path, SHARDS[3]!);
    filled(folder, 3, 1).commit();
    const set = filled(folder, 3, 2);
    const path = join(folder.path, place), aside = join(folder.path, "aside");
    if (existsSync(path)) copyFileSync(path, aside);
    rmSync(path, { force: true });
    mkdirSync(join(path, "in the way"), { recursive: true });
    assert.throws(() => set.commit());
    set.keep();
    rmSync(path, { recursive: true });
    const isLink = place.startsWith(".");
    if (!isLink) assert.equal(valueOf(index), 2, "the new model is whole under its second names");
    await recoverNames(join(folder.path, "m.safetensors"), TIMES);
    assert.equal(valueOf(index), isLink ? 1 : 2);
    const left = readdirSync(folder.path).filter((name) => name !== "aside").sort();
    const partials = SHARDS.slice(0, 3).map((name) => `.${name}.partial`);
    assert.deepEqual(left, isLink ? [...partials, ...SHARDS] : SHARDS);
  }
});

Deno.test("OutputSet.commit() leaves nothing but the new shards if it replaces some of the same names", () => {
  using folder = new TempFolder();
  filled(folder, 3, 1).commit();
  const before = readFileSync(join(folder.path, SHARDS[3]!));
  filled(folder, 3, 2).commit();
  assert.deepEqual(readdirSync(folder.path).sort(), SHARDS);
  assert.equal(valueOf(join(folder.path, SHARDS[3]!)), 2);
  assert(readFileSync(join(folder.path, SHARDS[3]!)).equals(before));
});

Deno.test("LockedOutput replaces what killed runs of the same name left, in either form and of any count", async () => {
  for (const count of [1, 2]) {
    using folder = new TempFolder();
    const others = [
      ".m.safetensors.journal",
      ".m.safetensors.lock",
      ".m.safetensors.partial",
      ".m.safetensors.index.json.journal",
      ".m.safetensors.index.json.lock",
      ".m-00003-of-00004.safetensors.partial",
      ".m-00001-of-00002.safetensors.partial",
      ".m-00001-of-00002.new.safetensors",
    ];
    for (const name of others) folder.write(name, "left");
    // Of other outputs.
    const strangers = [
      ".m2.safetensors.partial",
      ".m.other.partial",
      ".mm-00001-of-00002.safetensors.partial",
    ];
    for (const name of strangers) folder.write(name, "left");
    const path = join(folder.path, "m.safetensors");
    {
      using output = await LockedOutput.create(path, layoutOf(count), {
        force: false,
        times: TIMES,
      });
      await output.commit();
    }
    const found = readdirSync(folder.path).filter((name) => name.startsWith(".")).sort();
    assert.deepEqual(found, strangers.toSorted());
  }
});

Deno.test("LockedOutput.create() refuses while another process writes the output, and touches nothing of it", async () => {
  using folder = new TempFolder();
  const path = join(folder.path, "m.safetensors");
  const other = await OutputLock.take(join(folder.path, ".m.safetensors.lock"), path, TIMES);
  folder.write(".m.safetensors.partial", "another's");
  const times = { touchMs: 5, watchMs: 2000 };
  await assert.rejects(LockedOutput.create(path, WHOLE, { force: false, times }), UnsupportedError);
  // Nor in the other form.
  {
    using shards = await LockedOutput.create(path, layoutOf(2), { force: false, times });
    await shards.commit();
  }
  assert.equal(readFileSync(join(folder.path, ".m.safetensors.partial"), "utf8"), "another's");
  other.release();
});

Deno.test("LockedOutput leaves nothing if it is not committed, and nothing of a run that took over", async () => {
  using folder = new TempFolder();
  const path = join(folder.path, "m.safetensors");
  {
    using _output = await LockedOutput.create(path, WHOLE, { force: false, times: TIMES });
  }
  assert.deepEqual(readdirSync(folder.path), []);
  {
    using output = await LockedOutput.create(path, WHOLE, { force: false, times: TIMES });
    folder.write(".m.safetensors.lock", "another");
    folder.write(".m.safetensors.partial", "another's");
    await assert.rejects(output.commit(), /taken over/);
  }
  assert.equal(readFileSync(join(folder.path, ".m.safetensors.partial"), "utf8"), "another's");
});

Deno.test("checkOutput() removes the journal and the lock beside an output that is complete", async () => {
  using folder = new TempFolder();
  const path = folder.write("m.safetensors", "complete");
  folder.write(".m.safetensors.journal", "left");
  const lock = folder.write(".m.safetensors.lock", "left");
  const hourAgo = new Date(Date.now() - 3_600_000);
  Deno.utimeSync(lock, hourAgo, hourAgo);
  await assert.rejects(checkOutput(path, { force: false }), /it exists/);
  assert.deepEqual(readdirSync(folder.path), ["m.safetensors"]);
  // Files that can be resumed are not touched.
  folder.write(".m.safetensors.partial", "left");
  folder.write(".m.safetensors.journal", "left");
  await checkOutput(path, { force: true });
  assert.equal(readdirSync(folder.path).length, 3);
});
