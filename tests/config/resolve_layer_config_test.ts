import assert from "node:assert/strict";
import fc from "fast-check";
import { UsageError } from "../../src/core/errors.ts";
import { type LayerEntry, parseLayerConfig } from "../../src/config/layer_config.ts";
import {
  layerOverrides,
  NO_LAYER_FLAGS,
  readLayerFlags,
} from "../../src/config/layer_overrides.ts";
import { layerConfigTemplate } from "../../src/config/layer_template.ts";
import { resolveLayerConfig } from "../../src/config/resolve_layer_config.ts";

function parse(value: unknown) {
  return parseLayerConfig(JSON.stringify(value), "c.json");
}

/** Layer -> block size of the entry that counts for it. */
function sizes(value: unknown, layers: string[], fullmatch = false): Record<string, number | null> {
  const { overrides } = resolveLayerConfig(parse(value), layers, { fullmatch });
  return Object.fromEntries([...overrides].map(([layer, { blockSize }]) => [layer, blockSize]));
}

Deno.test("resolveLayerConfig() prefers the exact name, then the longest literal, then the later", () => {
  const layers = ["blocks.1.attn", "blocks.10.attn", "blocks.10.attn.proj"];
  assert.deepEqual(
    sizes({
      "blocks.1.attn": { block_size: 1 },
      "blocks\\.\\d+\\.attn.*proj": { block_size: 2 },
      ".*": { block_size: 3 },
      "blocks.10": { block_size: 4 },
      "attn": { block_size: 5 },
    }, layers),
    { "blocks.1.attn": 1, "blocks.10.attn": 4, "blocks.10.attn.proj": 4 },
  );
  assert.deepEqual(
    sizes({
      "^blocks\\.1\\.attn$": { block_size: 1 },
      "blocks.1.att[n]|blocks.1.attn": { block_size: 2 },
    }, layers)["blocks.1.attn"],
    1,
  );
  assert.equal(
    sizes({ "attn": { block_size: 1 }, "proj": { block_size: 2 } }, layers)["blocks.10.attn.proj"],
    2,
  );
  assert.equal(
    sizes({ "proj": { block_size: 2 }, "attn": { block_size: 1 } }, layers)["blocks.10.attn.proj"],
    1,
  );
  assert.equal(
    sizes({ "a.b.weight": { block_size: 7 }, ".*a.b.weight.*": { block_size: 8 } }, ["a.b"])["a.b"],
    7,
  );
});

Deno.test("resolveLayerConfig() reports a pattern that matches only layers with their own entries", () => {
  const config = parse({ "a.q": { block_size: 1 }, "[a]": { block_size: 2 }, "$a.q": {} });
  const { overrides, unused } = resolveLayerConfig(config, ["a.q"]);
  assert.equal(overrides.get("a.q")!.blockSize, 1);
  assert.deepEqual(unused.map(({ pattern }) => pattern), ["$a.q"]);
});

Deno.test("resolveLayerConfig() matches whole names with fullmatch", () => {
  const layers = ["blocks.1", "blocks.10"];
  assert.deepEqual(sizes({ "blocks.1": { block_size: 1 } }, layers), {
    "blocks.1": 1,
    "blocks.10": 1,
  });
  assert.deepEqual(sizes({ "blocks.1": { block_size: 1 } }, layers, true), { "blocks.1": 1 });
});

Deno.test("resolveLayerConfig() keeps excluded layers whatever else names them", () => {
  const config = parse({
    "a.norm": { format: "int8" },
    "a": { format: "int8" },
    _exclusions: ["norm"],
  });
  const { overrides } = resolveLayerConfig(config, ["a.norm", "a.q"]);
  assert.deepEqual([overrides.get("a.norm")!.skip, overrides.get("a.q")!.skip], [true, false]);
  assert.equal(overrides.get("a.norm")!.origin, 'layer config _exclusions "norm"');
});

Deno.test("resolveLayerConfig() copes with 2,000 entries on 2,000 layers", () => {
  const layers = Array.from({ length: 2000 }, (_, i) => `double_blocks.${i}.img_attn.qkv`);
  const hostile = Object.fromEntries(
    layers.map((_, i) => [`(.*)*blocks\\.${i}\\.(\\w+)+\\.q`, { block_size: i + 1 }]),
  );
  const found = sizes(hostile, layers);
  assert.equal(Object.keys(found).length, 2000);
  assert.equal(found["double_blocks.1234.img_attn.qkv"], 1235);
});

Deno.test("layerConfigTemplate() is accepted as it is and gives each layer its own entry", () => {
  const layers: { name: string; entry: LayerEntry }[] = [
    { name: "img_in", entry: { skip: true } },
    { name: "blocks.1.q", entry: { format: "int8_tensorwise", scaling_mode: "row", convrot: 256 } },
    { name: "blocks.10.q", entry: { format: "int8_blockwise", block_size: 128 } },
    { name: "blocksx1.q", entry: { format: "fp16" } },
    { name: "odd(name)[0]+", entry: { format: "int8" } },
  ];
  const config = parseLayerConfig(layerConfigTemplate(layers), "t.json");
  for (const fullmatch of [false, true]) {
    const resolved = resolveLayerConfig(config, layers.map((l) => l.name), { fullmatch });
    assert.deepEqual(resolved.unused, []);
    for (const { name, entry } of layers) {
      const override = resolved.overrides.get(name)!;
      assert.equal(override.skip, entry.skip ?? false);
      assert.equal(override.convrot, entry.convrot ?? null);
      assert.equal(override.blockSize, entry.block_size ?? null);
      assert.equal(
        override.output,
        entry.format === undefined ? null : entry.format === "fp16" ? "fp16" : "int8",
      );
    }
  }
  assert.throws(() => layerConfigTemplate([]), RangeError);
  assert.throws(() => layerConfigTemplate([layers[0]!, layers[0]!]), RangeError);
});

Deno.test("layerOverrides() asks the config, then --custom-layers, then --fallback or _default", () => {
  const flags = readLayerFlags({
    ...NO_LAYER_FLAGS,
    customLayers: "attn",
    customBlockSize: 64,
    customScalingMode: "axis",
    fallback: "fp16",
  });
  const config = parse({ "attn.q": { format: "fp16" }, _default: { simple: true } });
  const overrides = layerOverrides(["attn.q", "attn.k", "mlp", "norm"], {
    config,
    fullmatch: false,
    flags,
  });
  const origin = (layer: string, kept: boolean) => overrides.of(layer, kept)?.origin;
  assert.equal(origin("attn.q", true), 'layer config "attn.q"');
  assert.equal(origin("attn.k", true), '--custom-layers "attn"');
  assert.deepEqual(
    [overrides.of("attn.k", false)!.output, overrides.of("attn.k", false)!.scaling],
    ["int8", "row"],
  );
  assert.equal(origin("norm", true), "--fallback fp16");
  assert.equal(origin("mlp", false), "layer config _default");
  assert.deepEqual([overrides.unused, flags.notes], [[], []]);
  const none = layerOverrides(["x"], {
    config: null,
    fullmatch: false,
    flags: readLayerFlags(NO_LAYER_FLAGS),
  });
  assert.equal(none.of("x", true), null);
});

Deno.test("readLayerFlags() reports flags that change nothing, and refuses bad values", () => {
  const notes = (flags: Partial<typeof NO_LAYER_FLAGS>) =>
    readLayerFlags({ ...NO_LAYER_FLAGS, ...flags }).notes;
  assert.deepEqual(notes({ customSimple: true, fallbackBlockSize: 64 }), [
    "--custom-simple has no effect without --custom-layers",
    "--fallback-block-size has no effect without --fallback",
  ]);
  assert.deepEqual(notes({ customLayers: "a", customType: "fp16", customBlockSize: 64 }), [
    "--custom-block-size has no effect without --custom-type int8",
  ]);
  assert.throws(() => notes({ customLayers: "(" }), /--custom-layers/);
  assert.throws(() => notes({ customBlockSize: 0 }), UsageError);
});

Deno.test("resolveLayerConfig() gives what trying every pattern on every layer gives", () => {
  const source = fc.array(
    fc.constantFrom("b", "blocks\\.", "(1|2)", "\\d+", ".", ".attn", "(q|k)?", "^", "$", "\\.w"),
    { minLength: 1, maxLength: 4 },
  ).map((pieces) => pieces.join("")).filter((text) => !/[\^$]\?/.test(text));
  const layer = fc.tuple(fc.constantFrom("b", "blocks"), fc.nat(12), fc.constantFrom("attn", "q"))
    .map((parts) => parts.join("."));
  const property = fc.property(
    fc.uniqueArray(source, { minLength: 1, maxLength: 6 }),
    fc.uniqueArray(layer, { maxLength: 8 }),
    fc.boolean(),
    (sources, layers, fullmatch) => {
      const entries = sources.map((text, i) => [text, { block_size: i + 1 }] as const);
      const { patterns } = parse(Object.fromEntries(entries));
      const want = layers.flatMap((name): [string, number | null][] => {
        const exact = patterns.findLast(({ pattern }) =>
          pattern.exact?.replace(/\.weight$/, "") === name && pattern.test(name, { fullmatch })
        );
        const found = patterns.filter(({ pattern }) => pattern.test(name, { fullmatch }));
        const most = Math.max(...found.map(({ pattern }) => pattern.longest));
        const best = exact ?? found.findLast(({ pattern }) => pattern.longest === most);
        return best === undefined ? [] : [[name, best.override.blockSize]];
      });
      assert.deepEqual(
        sizes(Object.fromEntries(entries), layers, fullmatch),
        Object.fromEntries(want),
      );
      const unused = patterns.filter(({ pattern }) =>
        layers.every((name) => !pattern.test(name, { fullmatch }))
      );
      assert.deepEqual(
        resolveLayerConfig(parse(Object.fromEntries(entries)), layers, { fullmatch }).unused
          .map(({ pattern }) => pattern),
        unused.map(({ pattern }) => pattern.source),
      );
    },
  );
  fc.assert(property, { numRuns: 500 });
});
