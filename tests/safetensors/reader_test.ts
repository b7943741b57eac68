import assert from "node:assert/strict";
import { chmodSync, closeSync, openSync, symlinkSync, truncateSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { FormatError } from "../../src/core/errors.ts";
import { readExactly } from "../../src/safetensors/input_files.ts";
import { openModel, TensorReader } from "../../src/safetensors/reader.ts";
import { rawFile, safetensors, TempFolder, tensor } from "../support/header_fixtures.ts";

const ONE = safetensors([tensor("a", "F32", [2, 3]), tensor("b", "I8", [5])], { format: "pt" });

/** Writes two shards and their index; `map` replaces what the index says. */
function writeShards(folder: TempFolder, map?: unknown): string {
  folder.write(
    "m-00001-of-00002.safetensors",
    safetensors([tensor("x", "F32", [2])], { format: "pt", one: "1" }),
  );
  folder.write(
    "m-00002-of-00002.safetensors",
    safetensors([tensor("y", "I8", [3]), tensor("z", "I8", [0])], { format: "mlx", two: "2" }),
  );
  const weightMap = map ?? {
    z: "m-00002-of-00002.safetensors",
    y: "m-00002-of-00002.safetensors",
    x: "m-00001-of-00002.safetensors",
  };
  const index = JSON.stringify({ metadata: { total_size: 11 }, weight_map: weightMap });
  return folder.write("m.safetensors.index.json", index);
}

Deno.test("openModel() reads the header of a file", () => {
  using folder = new TempFolder();
  const path = folder.write("m.safetensors", ONE);
  const model = openModel(path);
  assert.deepEqual(model.paths, [path]);
  assert.equal(model.path, path);
  assert.equal(model.inputBytes, ONE.length);
  assert.deepEqual(model.metadata, { format: "pt" });
  assert.deepEqual(model.tensors.map(({ name, file, shape }) => [name, file, shape]), [
    ["a", 0, [2, 3]],
    ["b", 0, [5]],
  ]);
});

Deno.test("openModel() reads a header longer than its first read", () => {
  using folder = new TempFolder();
  const many = Array.from({ length: 6000 }, (_, i) => tensor(`blocks.${i}.weight`, "U8", [1]));
  const file = safetensors(many);
  assert(file.length > 300_000);
  assert.equal(openModel(folder.write("m.safetensors", file)).tensors.length, 6000);
});

Deno.test("openModel() goes by content, not by the file's ending", () => {
  using folder = new TempFolder();
  assert.equal(openModel(folder.write("m.bin", ONE)).tensors.length, 2);
  for (const name of ["m.ckpt", "m.pt", "m.safetensors"]) {
    const path = folder.write(name, "PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00archive/data.pkl");
    assert.throws(() => openModel(path), (error) => {
      assert(error instanceof FormatError);
      assert.match(error.message, /zip archive, most likely a PyTorch pickle/);
      return error.path === path;
    });
  }
  const gguf = folder.write("m.gguf", "GGUF\x03\x00\x00\x00" + "\x00".repeat(50));
  assert.throws(() => openModel(gguf), /GGUF file/);
});

Deno.test("openModel() refuses truncated and damaged files with a FormatError", () => {
  using folder = new TempFolder();
  const path = folder.write("m.safetensors", ONE);
  for (const size of [ONE.length - 1, 40, 8, 5, 0]) {
    truncateSync(path, size);
    assert.throws(() => openModel(path), FormatError, `${size} bytes`);
  }
});

Deno.test("openModel() takes the only safetensors file of a folder", () => {
  using folder = new TempFolder();
  const path = folder.write("sub/m.safetensors", ONE);
  folder.write("sub/config.json", "{}");
  folder.write("sub/._m.safetensors", "resource fork");
  const model = openModel(join(folder.path, "sub"));
  assert.deepEqual(model.paths, [path]);
  assert.equal(model.path, join(folder.path, "sub"));
});

Deno.test("openModel() names the files of a folder that has several and no index", () => {
  using folder = new TempFolder();
  folder.write("b.safetensors", ONE);
  folder.write("a.safetensors", ONE);
  assert.throws(
    () => openModel(folder.path),
    /2 \.safetensors files and no index; name one: "a.safetensors", "b.safetensors"/,
  );
});

Deno.test("openModel() names the indexes of a folder that has several", () => {
  using folder = new TempFolder();
  folder.write("m.safetensors.index.json", "{}");
  folder.write("m.fp16.safetensors.index.json", "{}");
  assert.throws(() => openModel(folder.path), /2 indexes; name one: "m.fp16.safet.*"m.safetensors/);
});

Deno.test("openModel() says what a folder has instead of a model", () => {
  using folder = new TempFolder();
  assert.throws(() => openModel(folder.path), /no \.safetensors file is in it; it is empty/);
  for (let i = 0; i < 12; i++) folder.write(`${10 + i}.ckpt`, "");
  assert.throws(() => openModel(folder.path), /it has "10.ckpt", .*"17.ckpt" and 4 more$/);
});

Deno.test("openModel() says that a path is missing or goes through a file", () => {
  using folder = new TempFolder();
  const path = folder.write("m.safetensors", ONE);
  assert.throws(() => openModel(join(folder.path, "n")), /Cannot open ".*n": no such file or fol/);
  assert.throws(() => openModel(join(path, "n")), /a part of the path is not a folder/);
});

Deno.test({
  name: "openModel() says that permission is denied",
  ignore: process.getuid?.() === 0, // root may read anything
  fn() {
    using folder = new TempFolder();
    const path = folder.write("m.safetensors", ONE);
    chmodSync(path, 0);
    assert.throws(() => openModel(path), /Cannot open ".*": permission denied/);
  },
});

Deno.test("openModel() refuses devices without opening them", () => {
  assert.throws(() => openModel("/dev/zero"), /not a regular file/);
});

Deno.test("openModel() follows symbolic links", () => {
  using folder = new TempFolder();
  const path = folder.write("blob", ONE);
  symlinkSync(path, join(folder.path, "m.safetensors"));
  assert.equal(openModel(join(folder.path, "m.safetensors")).tensors.length, 2);
});

Deno.test("openModel() reads shards as one model, from the index and from its folder", () => {
  using folder = new TempFolder();
  const index = writeShards(folder);
  folder.write("consolidated.safetensors", ONE);
  for (const path of [index, folder.path]) {
    const model = openModel(path);
    assert.deepEqual(model.paths, [
      join(folder.path, "m-00001-of-00002.safetensors"),
      join(folder.path, "m-00002-of-00002.safetensors"),
    ]);
    assert.deepEqual(model.tensors.map(({ name, file }) => [name, file]), [
      ["x", 0],
      ["y", 1],
      ["z", 1],
    ]);
    assert.deepEqual(model.metadata, { format: "pt", one: "1", two: "2" });
  }
});

Deno.test("openModel() names the shards that are missing", () => {
  using folder = new TempFolder();
  const index = writeShards(folder, { x: "m-00001-of-00002.safetensors", y: "no.safetensors" });
  assert.throws(() => openModel(index), (error) => {
    assert(error instanceof FormatError);
    assert.match(error.rule, /1 of the 2 files that it names are missing: "no.safetensors"/);
    return error.path === index;
  });
});

Deno.test("openModel() names the shard that is damaged", () => {
  using folder = new TempFolder();
  const index = writeShards(folder);
  const shard = folder.write("m-00002-of-00002.safetensors", rawFile("{}", 3));
  assert.throws(() => openModel(index), (error) => {
    return error instanceof FormatError && error.path === shard;
  });
});

Deno.test("openModel() refuses the index of PyTorch shards", () => {
  using folder = new TempFolder();
  const index = folder.write(
    "pytorch_model.bin.index.json",
    JSON.stringify({ weight_map: { x: "pytorch_model-00001-of-00001.bin" } }),
  );
  assert.throws(() => openModel(index), /not a .safetensors file/);
});

Deno.test("readExactly() fills the view from the position, in shared memory too", () => {
  using folder = new TempFolder();
  const fd = openSync(folder.write("f", Uint8Array.of(1, 2, 3, 4, 5)), "r");
  try {
    const shared = new Uint8Array(new SharedArrayBuffer(8), 2, 3);
    readExactly(fd, shared, 1);
    assert.deepEqual([...shared], [2, 3, 4]);
    readExactly(fd, new Uint8Array(0), 5);
    assert.throws(
      () => readExactly(fd, new Uint8Array(4), 3),
      /the file ends at byte 5, bytes 3 to 7 are needed/,
    );
  } finally {
    closeSync(fd);
  }
});

Deno.test("TensorReader reads the bytes of tensors of all files, and again after close()", () => {
  using folder = new TempFolder();
  const model = openModel(writeShards(folder));
  using reader = new TensorReader(model);
  const read = () => model.tensors.map((found) => [found.name, [...reader.read(found)]]);
  const expected = [["x", [1, 2, 3, 4, 5, 6, 7, 8]], ["y", [1, 2, 3]], ["z", []]];
  assert.deepEqual(read(), expected);
  reader.close();
  assert.deepEqual(read(), expected);
});

Deno.test("TensorReader.read() names tensor and file if the file has shrunk", () => {
  using folder = new TempFolder();
  const path = folder.write("m.safetensors", ONE);
  const model = openModel(path);
  truncateSync(path, ONE.length - 2);
  using reader = new TensorReader(model);
  assert.throws(
    () => reader.read(model.tensors.at(1)!),
    /Cannot read tensor "b" of ".*m.safetensors": .*the file ends at byte/,
  );
});
