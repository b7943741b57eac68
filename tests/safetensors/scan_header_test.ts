import assert from "node:assert/strict";
import fc from "fast-check";
import { FormatError } from "../../src/core/errors.ts";
import { DTYPE_BITS } from "../../src/core/dtype.ts";
import { LENGTH_BYTES, parseHeader, strictHeader } from "../../src/safetensors/header.ts";
import { scanHeader, type ScannedHeader } from "../../src/safetensors/scan_header.ts";

const PLACE = { path: "model.safetensors", fileBytes: 2 ** 50 };

/** A file that holds `json` and says so. */
function fileOf(json: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(LENGTH_BYTES + json.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, LENGTH_BYTES);
  return bytes;
}

function scanned(json: Uint8Array): ScannedHeader | null {
  const bytes = fileOf(json);
  return scanHeader({ end: bytes.length, read: (from, to) => bytes.subarray(from, to) }, 3);
}

/** By the strict parser alone, or null if it refuses the text. */
function strict(json: Uint8Array): ScannedHeader | null {
  try {
    return strictHeader(json, { ...PLACE, file: 3 }, LENGTH_BYTES + json.length);
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}

const utf8 = (text: string) => new TextEncoder().encode(text);

/** In one order: that of the strict parser has names that are integers first, as objects have. */
function inOrder(header: ScannedHeader | null) {
  if (header === null) return null;
  const { tensors, metadata } = header;
  return { tensors: [...tensors].sort((a, b) => a.name < b.name ? -1 : 1), metadata };
}

/** Text with spaces where JSON allows them, of tensors whose sizes fit. */
const headerText = fc.array(
  fc.record({
    name: fc.oneof(
      fc.stringMatching(/^[a-z0-9_.]{1,12}$/),
      fc.string({ unit: "grapheme", minLength: 1, maxLength: 4 }),
    ),
    dtype: fc.constantFrom("F64", "F32", "BF16", "F8_E4M3", "F4", "I8", "F9"),
    shape: fc.array(fc.constantFrom(0, 1, 2, 3, 8, 4096), { maxLength: 3 }),
    order: fc.shuffledSubarray([0, 1, 2], { minLength: 3 }),
    gap: fc.constantFrom("", " ", "\n\t"),
  }),
  { maxLength: 6 },
).chain((entries) =>
  fc.tuple(fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 }), fc.nat(3), fc.boolean()).map(
    ([metadata, padding, hasMetadata]) => {
      let offset = 0;
      const parts = entries.map(({ name, dtype, shape, order, gap }) => {
        const bits = DTYPE_BITS[dtype as keyof typeof DTYPE_BITS] ?? 8;
        const end = offset + Math.floor(shape.reduce((a, b) => a * b, bits) / 8);
        const fields = [
          `"dtype":${gap}"${dtype}"`,
          `"shape"${gap}:[${shape.join(`${gap},`)}]`,
          `"data_offsets":[${offset},${gap}${end}]`,
        ];
        offset = end;
        return `${gap}${JSON.stringify(name)}${gap}:{${
          order.map((i) => fields[i]).join(`,${gap}`)
        }${gap}}`;
      });
      if (hasMetadata) parts.unshift(`"__metadata__":${JSON.stringify(metadata)}`);
      return `{${parts.join(",")}}${" ".repeat(padding)}`;
    },
  )
);

Deno.test("scanHeader() says what the strict parser says, or leaves the header to it", () => {
  let taken = 0;
  fc.assert(
    fc.property(headerText, (text) => {
      const json = utf8(text), found = scanned(json);
      if (found === null) return;
      taken++;
      assert.deepEqual(inOrder(found), inOrder(strict(json)));
    }),
    { numRuns: 2000 },
  );
  assert.ok(taken > 500, `${taken} of 2000 were taken`);
});

Deno.test("scanHeader() takes no header that the strict parser refuses, whatever byte is wrong", () => {
  const text = '{"__metadata__":{"a":"b\\"}"},"x.weight":{"dtype":"BF16","shape":[2,3],' +
    '"data_offsets":[0,12]},"y":{"dtype":"F32","shape":[],"data_offsets":[12,16]}}  ';
  const json = utf8(text);
  assert.deepEqual(inOrder(scanned(json)), inOrder(strict(json)));
  for (let at = 1; at < json.length; at++) {
    for (const byte of [...utf8('{}[],:"\\ 0-.eE\n\u0001x'), 0x80, 0xff]) {
      const wrong = json.slice();
      wrong[at] = byte;
      const found = scanned(wrong);
      if (found !== null) {
        assert.deepEqual(inOrder(found), inOrder(strict(wrong)), `byte ${at} is ${byte}`);
      }
    }
    const cut = json.subarray(0, at);
    assert.equal(scanned(cut) !== null, strict(cut) !== null, `cut at ${at}`);
  }
});

Deno.test("scanHeader() leaves names that occur twice, fields that do, and padded numbers to the strict parser", () => {
  const entry = '{"dtype":"I8","shape":[1],"data_offsets":[0,1]}';
  const faults = [
    `{"a":${entry},"a":${entry}}`,
    `{"__metadata__":{},"__metadata__":{}}`,
    `{"__metadata__":{"a":"1","a":"2"}}`,
    '{"a":{"dtype":"I8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}',
    '{"a":{"dtype":"I8","shape":[01],"data_offsets":[0,1]}}',
    '{"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1,2]}}',
    `{"a":${entry}}\n`,
    `{"a":${entry},}`,
  ];
  for (const text of faults) {
    assert.equal(scanned(utf8(text)), null, text);
    assert.equal(strict(utf8(text)), null, text);
  }
});

Deno.test("scanHeader() reads headers and metadata that are longer than a window, and shares shapes", () => {
  const count = 30_000, metadata = { long: 'x\\"}'.repeat(700_000) };
  const entries = Array.from(
    { length: count },
    (_, i) =>
      `"blocks.${i}.weight":{"dtype":"BF16","shape":[2,${1 + i % 2}],"data_offsets":[0,${
        4 + 4 * (i % 2)
      }]}`,
  );
  const json = utf8(`{"__metadata__":${JSON.stringify(metadata)},${entries.join(",")}}`);
  assert.ok(json.length > 4 * 2 ** 20);
  const found = scanned(json)!;
  assert.equal(found.tensors.length, count);
  assert.deepEqual(found.metadata, metadata);
  assert.deepEqual(found.tensors.at(count - 1), {
    name: `blocks.${count - 1}.weight`,
    dtype: "BF16",
    shape: [2, 2],
    file: 3,
    offsetBytes: LENGTH_BYTES + json.length,
    byteLength: 8,
  });
  assert.equal(found.tensors.at(0)!.shape, found.tensors.at(count - 2)!.shape);
});

Deno.test("parseHeader() names the rule also for a header that scanHeader() leaves", () => {
  const json = utf8('{"a":{"dtype":"I8","shape":[2],"data_offsets":[0,1]}}');
  const bytes = fileOf(json);
  assert.throws(
    () => parseHeader(bytes, { ...PLACE, fileBytes: bytes.length + 1 }),
    /span 1 bytes, shape \[2\] as I8 needs 2/,
  );
});
