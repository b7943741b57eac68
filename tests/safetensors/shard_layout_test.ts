import assert from "node:assert/strict";
import fc from "fast-check";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { layoutTensors } from "../../src/safetensors/layout.ts";
import { encodeIndex, layoutOutput, outputNames } from "../../src/safetensors/shard_layout.ts";

const METADATA = { format: "pt", note: "größer" };

const layer = fc.record({
  name: fc.string({ minLength: 1, maxLength: 12, unit: "grapheme" })
    .filter((text) => !text.includes(".")),
  rows: fc.integer({ min: 0, max: 60 }),
  cols: fc.integer({ min: 0, max: 60 }),
  hasScale: fc.boolean(),
});

/** Weights, some with scales. */
const tensors = fc.uniqueArray(layer, { selector: ({ name }) => name, maxLength: 20 })
  .map((layers) =>
    layers.flatMap(({ name, rows, cols, hasScale }): TensorInfo[] => [
      { name: `${name}.weight`, dtype: "I8", shape: [rows, cols] },
      ...(hasScale
        ? [{ name: `${name}.weight_scale`, dtype: "F32" as const, shape: [rows, 1] }]
        : []),
    ])
  );

Deno.test("layoutOutput() keeps layers whole and files within the limit, unless a layer is larger", () => {
  fc.assert(fc.property(tensors, fc.integer({ min: 1, max: 20_000 }), (infos, shardBytes) => {
    const layout = layoutOutput(infos, METADATA, { shardBytes });
    const partOf = new Map(
      layout.parts.flatMap(({ names }, part) =>
        names.map((name): [string, number] => [name, part])
      ),
    );
    assert.equal(partOf.size, infos.length);
    for (const { name } of infos) {
      const weight = name.replace("weight_scale", "weight");
      assert.equal(partOf.get(name), partOf.get(weight), name);
    }
    let end = 0;
    for (const { startBytes, totalBytes, names } of layout.parts) {
      assert.equal(startBytes, end);
      end += totalBytes;
      const layers = new Set(names.map((name) => name.split(".")[0]));
      assert(totalBytes <= shardBytes || layers.size <= 1, `${totalBytes} > ${shardBytes}`);
    }
    assert.equal(layout.totalBytes, end);
  }));
});

Deno.test("layoutOutput() places the tensors of every file as that file's layout has them", () => {
  fc.assert(fc.property(tensors, fc.integer({ min: 1, max: 9000 }), (infos, shardBytes) => {
    const layout = layoutOutput(infos, METADATA, { shardBytes });
    const byName = new Map(layout.entries.map((entry) => [entry.name, entry]));
    for (const { header, startBytes, names } of layout.parts) {
      const own = infos.filter(({ name }) => names.includes(name));
      const alone = layoutTensors(own, METADATA);
      assert.deepEqual(header, alone.header);
      for (const entry of alone.entries) {
        const { offsetBytes } = byName.get(entry.name)!;
        assert.equal(offsetBytes, startBytes + entry.offsetBytes);
      }
    }
  }));
});

Deno.test("layoutOutput() fills a file before it begins another", () => {
  const infos: TensorInfo[] = ["a", "b", "c", "d"].map((name) => ({
    name: `${name}.weight`,
    dtype: "I8",
    shape: [1000],
  }));
  const { parts } = layoutOutput(infos, null, { shardBytes: 2400 });
  assert.deepEqual(parts.map(({ names }) => names), [["a.weight", "b.weight"], [
    "c.weight",
    "d.weight",
  ]]);
});

Deno.test("layoutOutput() without a limit is the layout of one file", () => {
  const infos: TensorInfo[] = [{ name: "a", dtype: "F32", shape: [3] }];
  const { parts, totalBytes } = layoutOutput(infos, null, { shardBytes: null });
  assert.deepEqual(parts[0]!.header, layoutTensors(infos, null).header);
  assert.equal(parts.length, 1);
  assert.equal(parts[0]!.totalBytes, totalBytes);
});

Deno.test("layoutOutput() gives an output without tensors one file", () => {
  assert.equal(layoutOutput([], null, { shardBytes: 10 }).parts.length, 1);
});

Deno.test("outputNames() are those of Hugging Face's shards, for a file and for an index", () => {
  const three = {
    files: [1, 2, 3].map((n) => `d/m-0000${n}-of-00003.safetensors`),
    index: "d/m.safetensors.index.json",
    main: "d/m.safetensors.index.json",
  };
  assert.deepEqual(outputNames("d/m.safetensors", 3), three);
  assert.deepEqual(outputNames("d/m.safetensors.index.json", 3), three);
  const one = { files: ["d/m.safetensors"], index: null, main: "d/m.safetensors" };
  assert.deepEqual(outputNames("d/m.safetensors", 1), one);
  assert.deepEqual(outputNames("d/m.safetensors.index.json", 1), one);
});

Deno.test("encodeIndex() counts the data and names the file of every tensor, in name order", () => {
  const infos: TensorInfo[] = [
    { name: "z.weight", dtype: "F32", shape: [4] },
    { name: "__proto__", dtype: "I8", shape: [5] },
  ];
  const layout = layoutOutput(infos, null, { shardBytes: 1 });
  const text = new TextDecoder().decode(encodeIndex(layout, ["one", "two"]));
  assert.equal(
    text,
    `{\n  "metadata": {\n    "total_size": 21\n  },\n  "weight_map": {\n` +
      `    "__proto__": "two",\n    "z.weight": "one"\n  }\n}\n`,
  );
});
