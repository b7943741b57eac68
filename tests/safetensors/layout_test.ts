import assert from "node:assert/strict";
import fc from "fast-check";
import { alignmentOf, type DType, DTYPE_BITS } from "../../src/core/dtype.ts";
import { byteLength } from "../../src/core/shape.ts";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { parseHeader } from "../../src/safetensors/header.ts";
import { layoutTensors } from "../../src/safetensors/layout.ts";

const tensorInfos = fc.uniqueArray(
  fc.record({
    name: fc.string({ minLength: 1, maxLength: 8 }).filter((name) => name.isWellFormed()),
    dtype: fc.constantFrom(...Object.keys(DTYPE_BITS) as DType[]),
    shape: fc.array(fc.nat(5), { maxLength: 4 }),
  }),
  { selector: ({ name }) => name, maxLength: 15 },
).map((tensors) => tensors.filter(({ dtype, shape }) => byteLength(dtype, shape) !== undefined));

Deno.test("layoutTensors() leaves no holes or overlaps, aligned, in falling alignment", () => {
  fc.assert(fc.property(tensorInfos, (tensors) => {
    const { header, entries, totalBytes } = layoutTensors(tensors, null);
    assert.equal(header.length % 8, 0);
    let end = header.length;
    let alignment = 8;
    for (const entry of entries) {
      assert.equal(entry.offsetBytes, end, entry.name);
      assert.equal(entry.byteLength, byteLength(entry.dtype, entry.shape));
      assert.equal(entry.offsetBytes % alignmentOf(entry.dtype), 0, entry.name);
      assert(alignmentOf(entry.dtype) <= alignment, entry.name);
      alignment = alignmentOf(entry.dtype);
      end += entry.byteLength;
    }
    assert.equal(totalBytes, end);
    assert.equal(entries.length, tensors.length);
  }));
});

Deno.test("layoutTensors() keeps the order given within one alignment", () => {
  fc.assert(fc.property(tensorInfos, (tensors) => {
    const { entries } = layoutTensors(tensors, null);
    for (const size of [8, 4, 2, 1]) {
      const ofSize = (list: readonly TensorInfo[]) =>
        list.filter(({ dtype }) => alignmentOf(dtype) === size).map(({ name }) => name);
      assert.deepEqual(ofSize(entries), ofSize(tensors));
    }
  }));
});

Deno.test("layoutTensors() writes a header that parseHeader() reads back as planned", () => {
  fc.assert(fc.property(tensorInfos, (tensors) => {
    const { header, entries, totalBytes } = layoutTensors(tensors, { format: "pt" });
    const read = parseHeader(header, { path: "m", fileBytes: totalBytes });
    const byName = (list: readonly TensorInfo[]) =>
      new Map(list.map((item) => [item.name, { file: 0, ...item }]));
    assert.deepEqual(byName([...read.tensors]), byName(entries));
    assert.deepEqual(read.metadata, { format: "pt" });
  }));
});

Deno.test("layoutTensors() writes metadata first, and none for null", () => {
  const text = (metadata: Record<string, string> | null) =>
    new TextDecoder().decode(layoutTensors([], metadata).header.subarray(8)).trimEnd();
  assert.equal(text({ a: "b" }), '{"__metadata__":{"a":"b"}}');
  assert.equal(text({}), '{"__metadata__":{}}');
  assert.equal(text(null), "{}");
});

Deno.test("layoutTensors() refuses sizes that overflow and names taken twice", () => {
  const huge = { name: "w", dtype: "F32", shape: [2 ** 26, 2 ** 26] } as const;
  assert.throws(() => layoutTensors([huge], null), /tensor "w".*does not fit into a file/);
  const half = { dtype: "U8", shape: [2 ** 49] } as const;
  const many = Array.from({ length: 16 }, (_, i) => ({ ...half, name: `t${i}` }));
  assert.throws(() => layoutTensors(many, null), /tensor "t15"/);
  const nibble = { name: "n", dtype: "F4", shape: [3] } as const;
  assert.throws(() => layoutTensors([nibble], null), /tensor "n"/);
  const one = { name: "a", dtype: "U8", shape: [1] } as const;
  assert.throws(() => layoutTensors([one, one], null), RangeError);
});
