import assert from "node:assert/strict";
import { FormatError } from "../../src/core/errors.ts";
import { parseHeader } from "../../src/safetensors/header.ts";
import { mergeShards, parseIndex } from "../../src/safetensors/shards.ts";
import { type FixtureTensor, safetensors, tensor } from "../support/header_fixtures.ts";

const PATH = "m.safetensors.index.json";

function index(value: unknown) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return parseIndex(new TextEncoder().encode(text), PATH);
}

function refusesIndex(value: unknown, rule: RegExp): void {
  assert.throws(() => index(value), (error) => {
    assert(error instanceof FormatError, String(error));
    assert.match(error.rule, rule);
    return error.path === PATH;
  });
}

interface Shard {
  tensors: FixtureTensor[];
  metadata?: Record<string, string> | null;
}

function merge(shards: Record<string, Shard>, weightMap: Record<string, string>) {
  const parsed = index({ weight_map: weightMap });
  const headers = parsed.files.map((name, file) => {
    const { tensors, metadata = null } = shards[name]!;
    const bytes = safetensors(tensors, metadata);
    return parseHeader(bytes, { path: name, fileBytes: bytes.length, file });
  });
  return mergeShards(headers, {
    path: "folder",
    indexPath: PATH,
    index: parsed,
    paths: parsed.files,
    inputBytes: 1234,
  });
}

function refusesMerge(...args: [...Parameters<typeof merge>, RegExp, Partial<FormatError>]): void {
  const [shards, weightMap, rule, place] = args;
  assert.throws(() => merge(shards, weightMap), (error) => {
    assert(error instanceof FormatError, String(error));
    assert.match(error.rule, rule);
    assert.deepEqual([error.path, error.tensor], [place.path, place.tensor]);
    return true;
  });
}

Deno.test("parseIndex() gives the files once, in name order", () => {
  const { weightMap, files } = index({
    metadata: { total_size: 5 },
    weight_map: { a: "2.safetensors", b: "1.safetensors", c: "2.safetensors" },
  });
  assert.deepEqual(files, ["1.safetensors", "2.safetensors"]);
  assert.equal(weightMap.get("c"), "2.safetensors");
});

Deno.test("parseIndex() keeps tensor names such as constructor", () => {
  const { weightMap } = index(
    '{"weight_map":{"constructor":"1.safetensors","__proto__":"1.safetensors"}}',
  );
  assert.deepEqual([...weightMap.keys()], ["constructor", "__proto__"]);
});

Deno.test("parseIndex() refuses what is not an index", () => {
  refusesIndex("{", /not valid JSON/);
  refusesIndex('{"weight_map":{},"weight_map":{}}', /"weight_map" occurs twice/);
  refusesIndex([], /has no "weight_map" of tensor names/);
  refusesIndex({}, /has no "weight_map" of tensor names/);
  refusesIndex({ weight_map: [] }, /has no "weight_map" of tensor names/);
  refusesIndex({ weight_map: { a: 5 } }, /has no "weight_map" of tensor names/);
  refusesIndex('{"weight_map":{"constructor":5}}', /has no "weight_map" of tensor names/);
  refusesIndex({ weight_map: {} }, /"weight_map" is empty/);
  assert.throws(() => parseIndex(Uint8Array.of(0x7b, 0xff), PATH), /not valid UTF-8/);
});

Deno.test("parseIndex() refuses shards outside the folder of the index", () => {
  const names = [
    "../a.safetensors",
    "/a.safetensors",
    "s/a.safetensors",
    "..\\a.safetensors",
    "..",
    "",
  ];
  for (const name of [...names, "C:a.safetensors", "a\0.safetensors"]) {
    refusesIndex({ weight_map: { x: name } }, /not a plain file name/);
  }
  refusesIndex({ weight_map: { x: "a.bin" } }, /"a.bin", which is not a .safetensors file/);
});

const A = "a.safetensors", B = "b.safetensors";
const x = tensor("x", "U8", [1]), y = tensor("y", "U8", [2]);

Deno.test("mergeShards() gives all tensors in file order, and the sum of sizes", () => {
  const model = merge({ [A]: { tensors: [y] }, [B]: { tensors: [x] } }, { x: B, y: A });
  assert.deepEqual(model.tensors.map(({ name, file }) => [name, file]), [["y", 0], ["x", 1]]);
  assert.deepEqual([model.path, model.inputBytes, model.metadata], ["folder", 1234, null]);
});

Deno.test("mergeShards() takes the first shard's value of a metadata key that several have", () => {
  const shards = {
    [A]: { tensors: [x], metadata: { format: "pt", a: "1" } },
    [B]: { tensors: [y], metadata: { b: "2", format: "mlx" } },
  };
  const { metadata } = merge(shards, { x: A, y: B });
  assert.deepEqual(Object.entries(metadata!), [["format", "pt"], ["a", "1"], ["b", "2"]]);
});

Deno.test("mergeShards() keeps an empty metadata map apart from none", () => {
  const shards = { [A]: { tensors: [x], metadata: {} }, [B]: { tensors: [y] } };
  assert.deepEqual(merge(shards, { x: A, y: B }).metadata, {});
});

Deno.test("mergeShards() refuses a tensor that its shard does not hold", () => {
  refusesMerge(
    { [A]: { tensors: [x] } },
    { x: A, y: A },
    /shard "a.safetensors" does not hold this tensor/,
    { path: PATH, tensor: "y" },
  );
});

Deno.test("mergeShards() refuses a tensor that the index does not name", () => {
  refusesMerge(
    { [A]: { tensors: [x, y] } },
    { x: A },
    /index "m.safetensors.index.json" does not name this tensor/,
    { path: A, tensor: "y" },
  );
});

Deno.test("mergeShards() refuses a tensor that is in another shard than the index says", () => {
  const z = tensor("z", "U8", [1]);
  refusesMerge(
    { [A]: { tensors: [x, y] }, [B]: { tensors: [z] } },
    { x: A, y: B, z: B },
    /says that "b.safetensors" holds this tensor/,
    { path: A, tensor: "y" },
  );
});

Deno.test("mergeShards() refuses a tensor that two shards hold", () => {
  refusesMerge(
    { [A]: { tensors: [x] }, [B]: { tensors: [y, x] } },
    { x: A, y: B },
    /"a.safetensors" holds this tensor too/,
    { path: B, tensor: "x" },
  );
});
