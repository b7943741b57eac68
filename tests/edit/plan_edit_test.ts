import assert from "node:assert/strict";
import { FormatError, UnsupportedError, UsageError } from "../../src/core/errors.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensorOf } from "../support/model_files.ts";
import { int8Layer, markerTensor, randomValues } from "../support/encode.ts";
import { edit, layerPattern, markerOf } from "./edit_files.ts";

const SHAPE = { rows: 4, cols: 16 };
const KEY = "_quantization_metadata";
const NORM = tensorOf("norm.weight", "BF16", [3], new Uint16Array([1, 2, 3]));

const layer = (name: string) => int8Layer(name, randomValues(64), SHAPE).tensors;
const MODEL: readonly Tensor[] = [...layer("a"), ...layer("b"), NORM];

function listing(layers: Record<string, unknown>): Record<string, string> {
  return { config: "{}", [KEY]: JSON.stringify({ format_version: "1.0", layers }) };
}

const listed = (metadata: Readonly<Record<string, string>> | null) =>
  JSON.parse(metadata?.[KEY] ?? "null")?.layers ?? null;

Deno.test("planEdit() adds, replaces and removes keys in the markers and in the metadata", async () => {
  const metadata = listing({ a: { format: "int8_tensorwise", old: 1 } });
  const added = await edit(MODEL, {
    addKeys: new Map<string, unknown>([["full_precision_matrix_mult", true], ["old", 2]]),
    filter: layerPattern("^a$"),
  }, metadata);
  const object = { format: "int8_tensorwise", full_precision_matrix_mult: true, old: 2 };
  assert.deepEqual(markerOf(added.tensors, "a"), object);
  assert.deepEqual(listed(added.metadata), { a: object });
  assert.equal(added.metadata?.["config"], "{}");
  assert.deepEqual(markerOf(added.tensors, "b"), { format: "int8_tensorwise" });

  const removed = await edit(MODEL, { removeKeys: ["old"] }, metadata);
  assert.deepEqual(listed(removed.metadata), { a: { format: "int8_tensorwise" } });
});

Deno.test("planEdit() writes markers as the official files do", async () => {
  const { tensors } = await edit(MODEL, { addKeys: new Map([["convrot_groupsize", 16]]) });
  const text = new TextDecoder().decode(tensors.get("a.comfy_quant")!.data);
  assert.equal(text, '{"format": "int8_tensorwise", "convrot_groupsize": 16}');
});

Deno.test("planEdit() removes tensors by name, and one part of all layers by .part", async () => {
  const named = await edit(MODEL, { removeKeys: ["a.weight_scale", "norm.weight"] });
  assert.deepEqual(
    [...named.tensors.keys()].sort(),
    MODEL.map(({ name }) => name).filter((name) => !/^(a.weight_scale|norm.weight)$/.test(name))
      .sort(),
  );
  const parts = await edit(MODEL, {
    removeKeys: [".weight_scale"],
    filter: layerPattern("b"),
  });
  assert(parts.tensors.has("a.weight_scale") && !parts.tensors.has("b.weight_scale"));
});

Deno.test("planEdit() takes a layer out of the metadata if its marker is removed", async () => {
  const metadata = listing({ a: { format: "int8_tensorwise" }, b: { format: "int8_tensorwise" } });
  const { metadata: left } = await edit(MODEL, { removeKeys: ["a.comfy_quant"] }, metadata);
  assert.deepEqual(Object.keys(listed(left)), ["b"]);
});

Deno.test("planEdit() makes the metadata from the tensors, and the tensors from the metadata", async () => {
  const metadata = listing({
    a: { format: "int8_tensorwise", from: "metadata" },
    gone: { format: "int8_tensorwise" },
  });
  const rebuilt = await edit(MODEL, { metadata: true }, metadata);
  assert.deepEqual(listed(rebuilt.metadata), {
    a: { format: "int8_tensorwise" },
    b: { format: "int8_tensorwise" },
  });

  const unmarked = MODEL.filter(({ name }) => name !== "a.comfy_quant");
  for (const tensors of [MODEL, unmarked]) {
    const back = await edit(tensors, { markers: true }, metadata);
    assert.deepEqual(markerOf(back.tensors, "a"), { format: "int8_tensorwise", from: "metadata" });
    assert.equal(markerOf(back.tensors, "gone"), null);
    const only = await edit(tensors, { metadata: false }, metadata);
    assert.deepEqual(only.metadata, { config: "{}" });
    assert.deepEqual(markerOf(only.tensors, "a"), { format: "int8_tensorwise", from: "metadata" });
  }
  await assert.rejects(edit(MODEL, { metadata: true, markers: true }, metadata), UnsupportedError);
});

Deno.test("planEdit() changes nothing if everything is so already", async () => {
  const { plan } = await edit(MODEL, { addKeys: new Map([["format", "int8_tensorwise"]]) });
  assert.deepEqual(plan.operations, []);
  assert.equal(plan.selected, 2);
});

Deno.test("planEdit() says that layers without a marker have none to edit", async () => {
  const bare = MODEL.filter(({ name }) => name !== "b.comfy_quant");
  const { plan } = await edit(bare, { addKeys: new Map([["x", 1]]) });
  assert.match(plan.notes.join(), /1 quantized layer has no marker.*migrate/);
});

Deno.test("planEdit() refuses what cannot be meant", async () => {
  const refused = (options: Parameters<typeof edit>[1], message: RegExp) =>
    assert.rejects(edit(MODEL, options), (error: Error) => {
      assert(error instanceof UsageError, String(error));
      assert.match(error.message, message);
      return true;
    });
  await refused({}, /Nothing to edit/);
  await refused({ removeKeys: ["weight_scal"] }, /Cannot remove "weight_scal"/);
  await refused({ removeKeys: ["a.weight_scal"] }, /nearest is "a.weight_scale"/);
  await refused({ removeKeys: ["x"], addKeys: new Map([["x", 1]]) }, /remove and add the key "x"/);
  await refused(
    { removeKeys: ["format"], filter: layerPattern("zzz") },
    /--quant-filter "zzz": no quantized layer matches/,
  );
  await assert.rejects(edit([NORM], { metadata: true }), UnsupportedError);
  const { plan } = await edit([NORM, tensorOf("x", "U8", [1], new Uint8Array(1))], {
    removeKeys: ["x"],
  });
  assert.equal(plan.operations.length, 1, "tensors of any file can be removed");
});

Deno.test("planEdit() refuses markers and metadata that cannot be read, naming them", async () => {
  const broken = [...layer("a").slice(0, 2), markerTensor("a", "{no")];
  const options = { addKeys: new Map([["x", 1]]) };
  await assert.rejects(edit(broken, options), (error: Error) => {
    assert(error instanceof FormatError);
    assert.match(error.message, /"a\.comfy_quant", at byte \d+: the marker is not valid JSON/);
    return true;
  });
  await assert.rejects(edit(MODEL, options, { [KEY]: "{" }), /_quantization_metadata/);
  // Tensors that the filter leaves out are not checked.
  const other = [...broken, ...layer("b")];
  const { tensors } = await edit(other, { ...options, filter: layerPattern("b") });
  assert.deepEqual(markerOf(tensors, "b"), { format: "int8_tensorwise", x: 1 });
});

Deno.test("planEdit() edits no list of layers that the file does not have, but drops it", async () => {
  const metadata = listing({ gone: { format: "int8_tensorwise" } });
  await assert.rejects(
    edit(MODEL, { addKeys: new Map([["x", 1]]) }, metadata),
    (error) =>
      error instanceof FormatError && /layers that it does not have: "gone"/.test(error.message),
  );
  const { metadata: after } = await edit(MODEL, { metadata: false }, metadata);
  assert.equal(listed(after), null);
});
