import assert from "node:assert/strict";
import fc from "fast-check";
import { type DType, DTYPE_BITS } from "../../src/core/dtype.ts";
import { FormatError } from "../../src/core/errors.ts";
import { byteLength } from "../../src/core/shape.ts";
import {
  encodeHeader,
  headerEnd,
  type HeaderEntry,
  MAX_HEADER_BYTES,
  parseHeader,
} from "../../src/safetensors/header.ts";
import { rawFile, safetensors, tensor } from "../support/header_fixtures.ts";

/** Parses a whole file in memory. */
function parse(file: Uint8Array, fileBytes = file.length) {
  return parseHeader(file, { path: "m.safetensors", fileBytes });
}

/** The fault that a file must have. */
interface Expected {
  rule: RegExp;
  offsetBytes?: number | undefined;
  tensor?: string | undefined;
}

/** Checks that a file breaks a rule, and that the error names the place. */
function refuses(file: Uint8Array, expected: Expected, fileBytes = file.length): FormatError {
  try {
    parse(file, fileBytes);
  } catch (error) {
    assert(error instanceof FormatError, String(error));
    assert.match(error.rule, expected.rule);
    assert.equal(error.tensor, expected.tensor);
    assert.equal(error.offsetBytes, expected.offsetBytes);
    assert.equal(error.path, "m.safetensors");
    assert(error.hint !== undefined && error.message.endsWith(error.hint), error.message);
    return error;
  }
  assert.fail(`accepted, though it breaks ${expected.rule}`);
}

/** Returns the JSON of a file with one U8 [4] tensor "a", its entry's members replaced. */
function entry(members: Record<string, unknown>): string {
  return JSON.stringify({ a: { dtype: "U8", shape: [4], data_offsets: [0, 4], ...members } });
}

const bytes = (text: string) => Uint8Array.from(text, (c) => c.charCodeAt(0));

// ---- the file as a whole

Deno.test("headerEnd() says that an empty file is empty", () => {
  refuses(new Uint8Array(0), { rule: /empty \(0 bytes\)/ });
});

Deno.test("headerEnd() refuses files shorter than the header length", () => {
  for (const size of [1, 7]) {
    refuses(new Uint8Array(size), { rule: new RegExp(`has ${size} bytes.*header length of 8`) });
  }
});

Deno.test("headerEnd() refuses a header length of 0", () => {
  refuses(new Uint8Array(8), { rule: /header length is 0/, offsetBytes: 0 });
  refuses(new Uint8Array(4096), { rule: /header length is 0/, offsetBytes: 0 });
});

Deno.test("headerEnd() accepts a header length of 100,000,000 and refuses one more", () => {
  const start = rawFile("{}");
  const length = new DataView(start.buffer);
  const place = { path: "m.safetensors", fileBytes: 2 ** 40 };
  length.setBigUint64(0, BigInt(MAX_HEADER_BYTES), true);
  assert.equal(headerEnd(start, place), MAX_HEADER_BYTES + 8);
  for (const tooLong of [BigInt(MAX_HEADER_BYTES) + 1n, 2n ** 32n + 2n, 2n ** 64n - 1n]) {
    length.setBigUint64(0, tooLong, true);
    refuses(start, { rule: new RegExp(`${tooLong}, more than`), offsetBytes: 0 }, 2 ** 40);
  }
});

Deno.test("headerEnd() says where a file with a cut header ends and what the header needs", () => {
  const file = safetensors([tensor("a", "F32", [4])]);
  const end = headerEnd(file, { path: "m", fileBytes: file.length });
  for (const size of [8, 9, 9 + 8, end - 1]) {
    const rule = new RegExp(`ends at byte ${size}, its header needs ${end}`);
    const error = refuses(file.slice(0, size), { rule, offsetBytes: 0 });
    assert.match(error.message, /download or copy it again/);
  }
});

Deno.test("headerEnd() refuses a header that does not start with a brace", () => {
  for (const json of ['["a"]', ' {"a":1}', '\ufeff{"a":1}', '"a"', "null"]) {
    refuses(rawFile(json), { rule: /does not start with "\{"/, offsetBytes: 8 });
  }
});

Deno.test("headerEnd() accepts a start that holds only part of the header", () => {
  const file = safetensors([tensor("a".repeat(300), "F32", [4])]);
  const start = file.slice(0, 64);
  assert.equal(headerEnd(start, { path: "m", fileBytes: file.length }), file.length - 16);
});

Deno.test("parseHeader() throws RangeError if it is given less than the header", () => {
  const file = safetensors([tensor("a".repeat(300), "F32", [4])]);
  assert.throws(() => parse(file.slice(0, 64), file.length), RangeError);
});

Deno.test("headerEnd() names files of other kinds by how they begin", () => {
  const long = " ".repeat(100);
  const cases: [string, RegExp, RegExp][] = [
    ["PK\x03\x04\x00\x00\x08\x08\x00\x00" + long, /zip archive.*PyTorch pickle/, /as .safetensors/],
    ["\x80\x02}q\x00(X\x05\x00" + long, /Python pickle/, /as .safetensors/],
    ["\x80\x05\x95\x10\x00\x00\x00\x00" + long, /Python pickle/, /as .safetensors/],
    ["GGUF\x03\x00\x00\x00\x10\x00" + long, /GGUF/, /already quantized/],
    ["<!DOCTYPE html><html>" + long, /web page/, /download/],
    ["\n\n<HTML lang=en>" + long, /web page/, /download/],
    ['<?xml version="1.0"?><Error/>', /XML/, /download/],
    ["version https://git-lfs.github.com/spec/v1\noid sha256:", /git-lfs pointer/, /git lfs pull/],
    ["Entry not found", /text that begins "Entry not found"/, /download/],
    ["404", /text that begins "404"/, /download/],
    ['{"weight_map":{"a":"b"}}', /JSON text/, /index\.json/],
    ["\x93NUMPY\x01\x00v\x00" + long, /NumPy/, /as .safetensors/],
    ["\x1f\x8b\x08\x00\x00\x00\x00\x00\x00" + long, /gzip/, /unpack/],
    ["Rar!\x1a\x07\x01\x00" + long, /RAR/, /unpack/],
    ["\x28\xb5\x2f\xfd\x04\x00\x00\x00" + long, /zstd/, /unpack/],
    ["\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + long, /PNG picture/, /give the \.safetensors/],
    ["\xff\xd8\xff\xe0\x00\x10JFIF\x00" + long, /JPEG picture/, /give the \.safetensors/],
    ["RIFF\x24\x00\x00\x00WEBPVP8 " + long, /WebP/, /give the \.safetensors/],
    ["\x00\x00\x00\x20ftypisom" + long, /video \(MP4\)/, /give the \.safetensors/],
    ["%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + long, /PDF/, /give the \.safetensors/],
    ["MZ\x90\x00\x03\x00\x00\x00\x04" + long, /program \(Windows\)/, /give the \.safetensors/],
  ];
  for (const [text, what, hint] of cases) {
    const error = refuses(bytes(text), { rule: what });
    assert.match(error.rule, /not a safetensors file/);
    assert.match(error.hint!, hint);
  }
});

Deno.test("headerEnd() reads a header length that spells a magic as a length", () => {
  // 0x04034b50 = "PK\3\4", a valid length of 67 MB.
  const start = bytes("PK\x03\x04\0\0\0\0{" + " ".repeat(60));
  assert.equal(headerEnd(start, { path: "m", fileBytes: 2 ** 30 }), 0x04034b50 + 8);
});

// ---- the JSON

Deno.test("parseHeader() refuses bytes that are not UTF-8, at their offset", () => {
  for (const [broken, at] of [["\xff", 0], ["\xc3(", 1], ["\xed\xa0\x80", 1]] as const) {
    const json = bytes(`{"__metadata__":{"ab":"${broken}"}}`);
    refuses(rawFile(json), { rule: /not valid UTF-8/, offsetBytes: 8 + 23 + at });
  }
  const long = bytes(`{"${"\xe2\x82\xac".repeat(50_000)}${"x".repeat(70_000)}\xff"}`);
  refuses(rawFile(long), { rule: /not valid UTF-8/, offsetBytes: 8 + 2 + 150_000 + 70_000 });
  for (let shift = 0; shift < 8; shift++) { // a broken character around the step of the search
    const around = bytes(`{"${"x".repeat(65_536 - 8 + shift)}\xe2\x82y${"z".repeat(9000)}"}`);
    const offsetBytes = 8 + 2 + 65_536 - 8 + shift + 2;
    refuses(rawFile(around), { rule: /not valid UTF-8/, offsetBytes });
  }
  const cut = bytes('{"a\xe2\x82');
  refuses(rawFile(cut), { rule: /not valid UTF-8/, offsetBytes: 8 + cut.length });
});

Deno.test("parseHeader() refuses text that is not JSON", () => {
  const cases = ["{", '{"a"}', '{"a":{},}', "{'a':1}", '{"a":NaN}', '{"a":01}', '{"a":"\n"}'];
  for (const json of cases) {
    try {
      parse(rawFile(json));
      assert.fail(`accepted ${json}`);
    } catch (error) {
      assert(error instanceof FormatError);
      assert.match(error.rule, /not valid JSON/);
      assert(error.offsetBytes! >= 8);
    }
  }
});

Deno.test("parseHeader() refuses nesting without end, fast", () => {
  const json = '{"a":' + "[".repeat(1_000_000);
  refuses(rawFile(json), { rule: /nest more than 100 deep/, offsetBytes: 8 + 5 + 99 });
});

Deno.test("parseHeader() pads with any number of spaces and with nothing else", () => {
  const json = entry({});
  for (const padding of ["", " ", " ".repeat(1000)]) {
    assert.equal(parse(rawFile(json + padding, 4)).tensors.length, 1);
  }
  const cases = [["\0", 0], ["\n", 0], ["x", 0], ["}", 0], ['  {"b":1}', 2], [
    "  \r\n  ",
    2,
  ]] as const;
  for (const [junk, at] of cases) {
    refuses(rawFile(json + junk, 4), {
      rule: /something other than spaces follows the JSON/,
      offsetBytes: 8 + json.length + at,
    });
  }
});

Deno.test("parseHeader() refuses a tensor that is listed twice, at the second one", () => {
  const one = '"ü":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}';
  const error = refuses(rawFile(`{${one},${one}}`, 4), {
    rule: /has the key "ü" twice/,
    offsetBytes: 8 + 1 + new TextEncoder().encode(one).length + 1,
  });
  assert.match(error.message, /"ü"/);
});

Deno.test("parseHeader() refuses repeated fields and repeated metadata keys", () => {
  const twice = '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"dtype":"U8"}}';
  refuses(rawFile(twice, 4), { rule: /key "dtype" twice/, offsetBytes: 8 + twice.length - 14 });
  refuses(rawFile('{"__metadata__":{"a":"","a":""}}'), {
    rule: /key "a" twice/,
    offsetBytes: 8 + 24,
  });
});

// ---- the entries

const AT_ENTRY = { offsetBytes: 8 + 1, tensor: "a" };

Deno.test("parseHeader() refuses an entry that is not an object", () => {
  for (const json of ['{"a":1}', '{"a":null}', '{"a":[1]}', '{"a":"F32"}']) {
    refuses(rawFile(json), { rule: /entry is not an object/, ...AT_ENTRY });
  }
});

Deno.test("parseHeader() refuses an entry without one of its fields", () => {
  for (const field of ["dtype", "shape", "data_offsets"]) {
    const rule = new RegExp(`"${field}" is missing`);
    refuses(rawFile(entry({ [field]: undefined }), 4), { rule, ...AT_ENTRY });
  }
});

Deno.test("parseHeader() refuses an entry with a field of its own", () => {
  refuses(rawFile(entry({ strides: [1] }), 4), { rule: /unknown field "strides"/, ...AT_ENTRY });
  const hidden = '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"__proto__":{}}}';
  refuses(rawFile(hidden, 4), { rule: /unknown field "__proto__"/, ...AT_ENTRY });
});

Deno.test("parseHeader() refuses dtypes that the format does not have", () => {
  for (const dtype of ["f32", "F128", "", "toString", 5, null]) {
    const rule = /the dtype .* is unknown/;
    refuses(rawFile(entry({ dtype }), 4), { rule, ...AT_ENTRY });
  }
});

Deno.test("parseHeader() refuses shapes that are not arrays of non-negative integers", () => {
  const rule = /shape is not an array of non-negative integers/;
  for (const shape of [4, "4", null, {}, [-4], ["4"], [null], [[4]], [2 ** 53], [4, -1]]) {
    refuses(rawFile(entry({ shape }), 4), { rule, ...AT_ENTRY });
  }
  const negativeZero = entry({}).replace("[4]", "[-0]");
  refuses(rawFile(negativeZero, 4), { rule, ...AT_ENTRY });
});

Deno.test("parseHeader() refuses numbers written with a fraction or an exponent", () => {
  const rule = /number that is not an integer/;
  for (const [from, to] of [["[4]", "[4.0]"], ["[4]", "[4e0]"], ["[0,4]", "[0.5,4]"]] as const) {
    const json = entry({}).replace(from, to);
    refuses(rawFile(json, 4), { rule, offsetBytes: 8 + json.search(/\d[.e]/) + 1 });
  }
});

Deno.test("parseHeader() refuses shapes whose size cannot be counted", () => {
  const rule = /more bytes than can be counted/;
  for (const shape of [[2 ** 40, 2 ** 40], [2 ** 32, 2 ** 21], [2 ** 50], Array(60).fill(2)]) {
    refuses(rawFile(entry({ shape }), 4), { rule, ...AT_ENTRY });
  }
});

Deno.test("parseHeader() refuses a sub-byte tensor that does not fill its last byte", () => {
  const json = entry({ dtype: "F4", shape: [7] });
  refuses(rawFile(json, 4), { rule: /does not fill whole bytes/, ...AT_ENTRY });
});

Deno.test("parseHeader() refuses offsets that are not two non-negative integers", () => {
  const rule = /data_offsets are not two non-negative integers/;
  for (const offsets of [4, null, [], [4], [0, 4, 4], [-4, 0], ["0", "4"], { 0: 0, 1: 4 }]) {
    refuses(rawFile(entry({ data_offsets: offsets }), 4), { rule, ...AT_ENTRY });
  }
});

Deno.test("parseHeader() refuses offsets that end before they begin", () => {
  const json = entry({ data_offsets: [4, 0] });
  refuses(rawFile(json, 4), { rule: /begin at 4, after their end at 0/, ...AT_ENTRY });
});

Deno.test("parseHeader() refuses offsets that span another size than dtype and shape need", () => {
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ shape: [3] }, /span 4 bytes, shape \[3\] as U8 needs 3/],
    [{ shape: [5] }, /span 4 bytes, shape \[5\] as U8 needs 5/],
    [{ shape: [2, 2], dtype: "F16" }, /span 4 bytes, shape \[2, 2\] as F16 needs 8/],
    [{ shape: [] }, /span 4 bytes, shape \[\] as U8 needs 1/],
    [{ shape: [0] }, /span 4 bytes, shape \[0\] as U8 needs 0/],
  ];
  for (const [members, rule] of cases) refuses(rawFile(entry(members), 4), { rule, ...AT_ENTRY });
});

Deno.test("parseHeader() names the entry's own offset, not that of an equal metadata key", () => {
  const json = '{"__metadata__":{"b":"b"},"b":5}';
  refuses(rawFile(json), { rule: /not an object/, tensor: "b", offsetBytes: 8 + 26 });
});

Deno.test("parseHeader() refuses names that are not well-formed Unicode", () => {
  const json = entry({}).replace('"a"', '"\\ud800"');
  refuses(rawFile(json, 4), { rule: /well-formed/, tensor: "\ud800", offsetBytes: 9 });
});

Deno.test("parseHeader() refuses metadata that is not a map of strings", () => {
  const of = (metadata: unknown) => rawFile(JSON.stringify({ __metadata__: metadata }));
  const at = { offsetBytes: 8 + 1 };
  for (const metadata of [null, 1, "x", []]) {
    refuses(of(metadata), { rule: /"__metadata__" is not an object of strings/, ...at });
  }
  for (const value of [1, null, {}, ["x"], true]) {
    const rule = /value that is not a string: "k"/;
    refuses(of({ format: "pt", k: value }), { rule, ...at });
  }
  const lone = rawFile('{"__metadata__":{"k":"\\udc00"}}');
  refuses(lone, { rule: /well-formed Unicode: "k"/, ...at });
});

// ---- the data

/** A file of U8 tensors with the given data offsets. */
function placed(places: Record<string, [number, number]>, dataBytes: number) {
  const json = JSON.stringify(Object.fromEntries(
    Object.entries(places).map(([name, [begin, end]]) => [
      name,
      { dtype: "U8", shape: [end - begin], data_offsets: [begin, end] },
    ]),
  ));
  return { file: rawFile(json, dataBytes), data: 8 + json.length };
}

Deno.test("parseHeader() says how many bytes a truncated file lacks", () => {
  const { file, data } = placed({ a: [0, 10], b: [10, 30], c: [30, 40] }, 40);
  for (const [missing, name, begin] of [[1, "c", 30], [10, "c", 30], [11, "b", 10], [40, "a", 0]]) {
    const size = file.length - Number(missing);
    const error = refuses(file.slice(0, size), {
      rule: new RegExp(
        `ends at byte ${size},.* end at ${file.length}: ${missing} bytes are missing`,
      ),
      tensor: String(name),
      offsetBytes: data + Number(begin),
    });
    assert.match(error.message, /download or copy it again/);
  }
});

Deno.test("parseHeader() refuses overlapping tensors", () => {
  const partly = placed({ a: [0, 10], b: [8, 20] }, 20);
  refuses(partly.file, {
    rule: /overlaps that of "a" by 2 bytes/,
    tensor: "b",
    offsetBytes: partly.data + 8,
  });
  const within = placed({ b: [0, 20], a: [5, 10] }, 20);
  refuses(within.file, { rule: /overlaps that of "b"/, tensor: "a", offsetBytes: within.data + 5 });
  const same = placed({ a: [0, 10], b: [0, 10] }, 10);
  refuses(same.file, { rule: /overlaps that of "a" by 10/, tensor: "b", offsetBytes: same.data });
});

Deno.test("parseHeader() refuses holes between tensors and before the first", () => {
  const between = placed({ a: [0, 10], b: [13, 20] }, 20);
  refuses(between.file, {
    rule: /hole of 3 bytes lies between "a" and its data/,
    tensor: "b",
    offsetBytes: between.data + 13,
  });
  const before = placed({ a: [4, 10] }, 10);
  refuses(before.file, {
    rule: /hole of 4 bytes lies between the header and/,
    tensor: "a",
    offsetBytes: before.data + 4,
  });
});

Deno.test("parseHeader() refuses bytes after the last tensor", () => {
  const { file, data } = placed({ a: [0, 10] }, 13);
  refuses(file, { rule: /3 bytes follow the last tensor/, offsetBytes: data + 10 });
  refuses(rawFile("{}", 1), { rule: /1 bytes follow the last tensor/, offsetBytes: 10 });
  refuses(rawFile("{}", 5), { rule: /5 bytes follow the last tensor/, offsetBytes: 10 });
});

// ---- what is valid

Deno.test("parseHeader() accepts tensors listed in any order and gives them in offset order", () => {
  const { file } = placed({ c: [30, 40], a: [0, 10], b: [10, 30] }, 40);
  assert.deepEqual(parse(file).tensors.map(({ name }) => name), ["a", "b", "c"]);
});

Deno.test("parseHeader() accepts tensors of size zero anywhere between tensors", () => {
  const { file } = placed({ d: [40, 40], b: [0, 40], a: [0, 0], c: [40, 40] }, 40);
  assert.deepEqual(parse(file).tensors.map(({ name }) => name), ["a", "b", "d", "c"]);
  const inside = placed({ a: [0, 10], z: [5, 5] }, 10);
  refuses(inside.file, { rule: /overlaps/, tensor: "z", offsetBytes: inside.data + 5 });
});

Deno.test("parseHeader() accepts a file without tensors", () => {
  const { tensors, metadata, dataOffsetBytes } = parse(rawFile("{}"));
  assert.deepEqual([[...tensors], metadata, dataOffsetBytes], [[], null, 10]);
  assert.deepEqual(parse(rawFile('{"__metadata__":{}}')).metadata, {});
});

Deno.test("parseHeader() gives scalars, file numbers and absolute offsets", () => {
  const file = safetensors([tensor("s", "F32", []), tensor("v", "I8", [3])], { format: "pt" });
  const header = parseHeader(file, { path: "m", fileBytes: file.length, file: 7 });
  const data = header.dataOffsetBytes;
  assert.deepEqual([...header.tensors], [
    { name: "s", dtype: "F32", shape: [], file: 7, offsetBytes: data, byteLength: 4 },
    { name: "v", dtype: "I8", shape: [3], file: 7, offsetBytes: data + 4, byteLength: 3 },
  ]);
  assert.deepEqual(header.metadata, { format: "pt" });
});

Deno.test("parseHeader() accepts names and metadata keys such as __proto__", () => {
  const file = safetensors(
    [tensor("__proto__", "U8", [2]), tensor("constructor", "U8", [1]), tensor("", "U8", [1])],
    JSON.parse('{"__proto__":"p","toString":"t"}'),
  );
  const { tensors, metadata } = parse(file);
  assert.deepEqual(tensors.map(({ name }) => name), ["__proto__", "constructor", ""]);
  assert.deepEqual(Object.entries(metadata!), [["__proto__", "p"], ["toString", "t"]]);
});

Deno.test("encodeHeader() writes the JSON as the official writer does, padded to 8", () => {
  const bytes = encodeHeader(
    [{ name: "a.weight", dtype: "F32", shape: [2, 3], begin: 0, end: 24 }],
    { format: "pt" },
  );
  const json = '{"__metadata__":{"format":"pt"},' +
    '"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}';
  assert.equal(bytes.length % 8, 0);
  assert.equal(new TextDecoder().decode(bytes.subarray(8)), json.padEnd(bytes.length - 8));
  assert.equal(new DataView(bytes.buffer).getBigUint64(0, true), BigInt(bytes.length - 8));
});

Deno.test("encodeHeader() writes the same JSON whatever the number of entries", () => {
  for (const count of [0, 1, 1023, 1024, 1025, 3000]) {
    const entries = Array.from({ length: count }, (_, i): HeaderEntry => ({
      name: `blöcke.${i}`,
      dtype: "U8",
      shape: [1],
      begin: i,
      end: i + 1,
    }));
    for (const metadata of [null, { format: "pt" }]) {
      const json = JSON.stringify(Object.fromEntries([
        ...(metadata === null ? [] : [["__metadata__", metadata]]),
        ...entries.map(({ name, dtype, shape, begin, end }) => [
          name,
          { dtype, shape, data_offsets: [begin, end] },
        ]),
      ]));
      const bytes = encodeHeader(entries, metadata);
      assert.equal(new TextDecoder().decode(bytes.subarray(8)).trimEnd(), json);
      assert.equal(bytes.length % 8, 0);
    }
  }
});

Deno.test("encodeHeader() refuses names that readers refuse", () => {
  const entry = (name: string): HeaderEntry => ({
    name,
    dtype: "U8",
    shape: [0],
    begin: 0,
    end: 0,
  });
  assert.throws(() => encodeHeader([entry("a"), entry("a")], null), /"a" is already taken/);
  assert.throws(() => encodeHeader([entry("__metadata__")], null), /already taken/);
  assert.throws(() => encodeHeader([entry("\ud800")], null), /well-formed/);
});

/** Valid header content: entries without holes in file order, and metadata. */
const headerContent = fc.record({
  tensors: fc.uniqueArray(
    fc.record({
      name: fc.oneof(
        fc.string({ unit: "grapheme", maxLength: 12 }),
        fc.stringMatching(/^[a-z.0-9]{1,9}$/),
      ),
      dtype: fc.constantFrom(...Object.keys(DTYPE_BITS) as DType[]),
      shape: fc.array(fc.nat(5), { maxLength: 4 }),
    }),
    { selector: ({ name }) => name, maxLength: 12 },
  ).map((tensors) =>
    tensors.filter(({ name, dtype, shape }) =>
      name !== "__metadata__" && name.isWellFormed() && byteLength(dtype, shape) !== undefined
    )
  ),
  metadata: fc.option(fc.dictionary(fc.string(), fc.string({ unit: "grapheme" }))),
});

Deno.test("parseHeader() gives back what encodeHeader() was given", () => {
  fc.assert(fc.property(headerContent, ({ tensors, metadata }) => {
    let end = 0;
    const entries = tensors.map(({ name, dtype, shape }) => {
      const begin = end;
      end += byteLength(dtype, shape)!;
      return { name, dtype, shape, begin, end };
    });
    const bytes = encodeHeader(entries, metadata);
    const header = parse(bytes, bytes.length + end);
    assert.equal(header.dataOffsetBytes, bytes.length);
    assert.deepEqual(
      header.metadata === null ? null : { ...header.metadata },
      metadata === null ? null : { ...metadata },
    );
    const found = header.tensors.map(({ name, dtype, shape, offsetBytes, byteLength }) => ({
      name,
      dtype,
      shape,
      begin: offsetBytes - bytes.length,
      end: offsetBytes - bytes.length + byteLength,
    }));
    const byName = (list: HeaderEntry[]) => new Map(list.map((item) => [item.name, item]));
    assert.deepEqual(byName(found), byName(entries));
    // In offset order; tensors of size zero may change places with one another.
    found.reduce((last, { begin }) => (assert(begin >= last), begin), 0);
  }));
});
