import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UsageError } from "../../src/core/errors.ts";
import { type LayerConfig, parseLayerConfig } from "../../src/config/layer_config.ts";
import { NO_OVERRIDE } from "../../src/config/layer_override.ts";
import { loadLayerConfig } from "../../src/config/load_layer_config.ts";

function parse(value: unknown) {
  return parseLayerConfig(JSON.stringify(value), "c.json");
}

function refused(text: string, message: RegExp): void {
  assert.throws(() => parseLayerConfig(text, "c.json"), (error: unknown) => {
    assert.ok(error instanceof UsageError, String(error));
    assert.match(error.message, /^Cannot (read|use) .*layer config "c\.json"/);
    assert.match(error.message, message);
    return true;
  });
}

Deno.test("parseLayerConfig() reads the flat and the wrapped shape alike", () => {
  const patterns = {
    ".*attention.*": { format: "int8", block_size: 64, skip: false },
    ".*final_layer.*": { format: "fp16", skip: false },
  };
  const rest = { _default: { simple: true }, _exclusions: ["norm"], _comment: "mine" };
  const flat = parse({ ...patterns, ...rest });
  const told = (config: LayerConfig) => [
    config.path,
    config.patterns.map(({ pattern, override }) => [pattern.source, override]),
    config.default,
    config.exclusions.map((pattern) => pattern.source),
  ];
  assert.deepEqual(told(parse({ layer_patterns: patterns, ...rest })), told(flat));
  assert.deepEqual(told(parse({ layer_patterns: { ...patterns, ...rest } })), told(flat));
  assert.deepEqual(flat.patterns.map(({ pattern }) => pattern.source), Object.keys(patterns));
  assert.deepEqual(flat.patterns[0]!.override, {
    ...NO_OVERRIDE,
    output: "int8",
    blockSize: 64,
    origin: 'layer config ".*attention.*"',
  });
  assert.equal(flat.patterns[1]!.override.output, "fp16");
  assert.equal(flat.default!.simple, true);
  assert.deepEqual(flat.exclusions.map((p) => p.source), ["norm"]);
});

Deno.test("parseLayerConfig() takes the scaling from the format if none is named", () => {
  const of = (entry: Record<string, unknown>) => {
    const { format, scaling, convrot, output } = parse({ a: entry }).patterns[0]!.override;
    return [output, format, scaling, convrot];
  };
  assert.deepEqual(of({ format: "int8_tensorwise" }), ["int8", "int8_tensorwise", "tensor", null]);
  assert.deepEqual(of({ format: "int8_axiswise" }), ["int8", "int8_axiswise", "row", null]);
  assert.deepEqual(of({ format: "int8_blockwise" }), ["int8", "int8_blockwise", "block", null]);
  assert.deepEqual(of({ scaling_mode: "axis" }), [null, null, "row", null]);
  assert.deepEqual(
    of({ format: "int8_tensorwise", scaling_mode: "row", convrot: 256 }),
    ["int8", "int8_tensorwise", "row", 256],
  );
  assert.deepEqual(of({ format: "int8", convrot: "auto" }), ["int8", null, null, "auto"]);
});

Deno.test("parseLayerConfig() names entry and field of what it refuses", () => {
  const cases: [unknown, RegExp][] = [
    [
      { a: { blok_size: 64 } },
      /entry "a", field "blok_size": unknown field; the nearest is "block_size"/,
    ],
    [{ a: { format: "int4" } }, /entry "a", field "format": one of int8, w6a8, .* it is "int4"/],
    [{ a: { block_size: 0 } }, /field "block_size": a positive integer is needed, it is 0/],
    [{ a: { block_size: 1.5 } }, /a positive integer is needed, it is 1\.5/],
    [{ a: { block_size: "64" } }, /a positive integer is needed, it is "64"/],
    [{ a: { skip: "yes" } }, /field "skip": true or false is needed, it is "yes"/],
    [{ a: { kept_as: "bf16" } }, /field "kept_as": only a layer with "skip": true is kept/],
    [{ a: { skip: true, kept_as: "fp16" } }, /field "kept_as": bf16 is needed/],
    [{ a: { linear_dtype: "fp8" } }, /field "linear_dtype": one of int4, int8 is needed/],
    [{ a: { scaling_mode: "rows" } }, /field "scaling_mode": one of tensor, axis, row, block/],
    [
      { a: { convrot: 128 } },
      /field "convrot": "auto", "off" or a power of 4 is needed, it is 128/,
    ],
    [{ a: { optimizer: "adam" } }, /field "optimizer": one of original/],
    [
      { a: { format: "int8_blockwise", scaling_mode: "row" } },
      /"row" contradicts format "int8_blockwise"/,
    ],
    [{ a: { format: "int8_axiswise", scaling_mode: "tensor" } }, /contradicts/],
    [{ a: { convrot: "auto", scaling_mode: "block" } }, /field "convrot": rotated layers/],
    [{ a: { simple: true, optimizer: "gptq" } }, /field "optimizer": it contradicts "simple"/],
    [{ a: [] }, /entry "a": an object is needed/],
    [{ a: null }, /entry "a": an object is needed/],
    [{ _exclusion: [] }, /entry "_exclusion": unknown key; the nearest is "_exclusions"/],
    [{ a: {}, _exclusions: [1] }, /entry "_exclusions": a list of texts is needed/],
    [{ a: {}, _default: { format: "x" } }, /entry "_default", field "format"/],
    [{ layer_patterns: { a: {} }, b: {} }, /entry "b": beside "layer_patterns" only/],
    [{ layer_patterns: { _default: {} }, _default: {} }, /entry "_default": it is there twice/],
    [{ layer_patterns: [] }, /entry "layer_patterns": an object is needed/],
    [{ "(a": {} }, /pattern "\(a" of layer config "c\.json": missing closing/],
    [{ "": {} }, /pattern "" .* it is empty/],
    [{ _exclusions: ["("] }, /pattern "\(" of layer config "c\.json", entry "_exclusions"/],
    [{}, /it has no entries/],
    [[], /an object is needed/],
  ];
  for (const [value, message] of cases) refused(JSON.stringify(value), message);
});

Deno.test("parseLayerConfig() places faults of the JSON itself", () => {
  refused('{\n  "a": {}, // first\n  "b": {}\n}', /line 2, column 12: JSON has no comments/);
  refused('/* x */ {"a": {}}', /line 1, column 1: JSON has no comments/);
  refused('{"http://a": {}, "a": {}, "a": {}}', /line 1, column 27: the key "a" occurs twice/);
  refused('{"a": {"skip": true, "skip": false}}', /the key "skip" occurs twice/);
  refused('\ufeff{"a": {}}', /line 1, column 1: it begins with a byte order mark/);
  refused('{"a": {}} x', /something follows the value/);
  refused("{", /./);
  assert.equal(parseLayerConfig('{"http://a#b": {}}', "c.json").patterns.length, 1);
});

Deno.test("loadLayerConfig() reads UTF-8 files and names what it cannot read", () => {
  const folder = mkdtempSync(join(tmpdir(), "config-"));
  try {
    const path = join(folder, "c.json");
    writeFileSync(path, '{"blöcke": {"skip": true}}');
    assert.equal(loadLayerConfig(path).patterns[0]!.pattern.source, "blöcke");
    writeFileSync(path, new Uint8Array([0xff, 0xfe, 0x7b, 0]));
    assert.throws(() => loadLayerConfig(path), /it is not UTF-8/);
    writeFileSync(path, new Uint8Array([0xef, 0xbb, 0xbf, 0x7b, 0x7d]));
    assert.throws(() => loadLayerConfig(path), /byte order mark/);
    assert.throws(() => loadLayerConfig(join(folder, "none.json")), (error: unknown) => {
      assert.ok(error instanceof UsageError);
      assert.match(error.message, /none\.json": there is no such file$/);
      return true;
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
