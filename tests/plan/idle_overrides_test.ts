import assert from "node:assert/strict";
import { parseLayerConfig } from "../../src/config/layer_config.ts";
import {
  type LayerFlags,
  NO_LAYER_FLAGS,
  readLayerFlags,
} from "../../src/config/layer_overrides.ts";
import { idleOverrides } from "../../src/plan/idle_overrides.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";

/** The sentences for a layer config and flags. */
function told(
  config: Record<string, unknown>,
  { options = {}, flags = {} }: {
    options?: Partial<ConvertOptions>;
    flags?: Partial<LayerFlags>;
  } = {},
): string[] {
  return idleOverrides({
    ...DEFAULT_CONVERT_OPTIONS,
    ...options,
    layers: {
      config: parseLayerConfig(JSON.stringify(config), "l.json"),
      fullmatch: false,
      flags: readLayerFlags({ ...NO_LAYER_FLAGS, ...flags }),
    },
  });
}

Deno.test("idleOverrides() reports a block size if the layer has no blocks", () => {
  const [one, ...rest] = told({ attn: { format: "int8", block_size: 64 } });
  assert.match(one!, /^block_size of .*attn.* has no effect with row scaling/);
  assert.deepEqual(rest, []);
  assert.match(
    told({ attn: { scaling_mode: "tensor", block_size: 64 } }, { options: { target: "ctq" } })[0]!,
    /with tensor scaling/,
  );
  assert.match(
    told({ attn: { convrot: 16, block_size: 64 } }, { options: { scaling: "block" } })[0]!,
    /with row scaling/,
  );
  assert.equal(told({ _default: { block_size: 64 } }).length, 1);
});

Deno.test("idleOverrides() is silent if the layer is in blocks, for itself or as all are", () => {
  assert.deepEqual(told({ a: { scaling_mode: "block", block_size: 64 } }), []);
  assert.deepEqual(told({ a: { format: "int8_blockwise", block_size: 64 } }), []);
  assert.deepEqual(told({ a: { block_size: 64 } }, { options: { scaling: "block" } }), []);
  assert.deepEqual(told({ a: { block_size: 64 } }, { options: { target: "ctq" } }), []);
});

Deno.test("idleOverrides() reports one sentence for many entries, and of fields of kept layers", () => {
  const many = Object.fromEntries(
    Array.from({ length: 300 }, (_, i) => [`blocks.${i}`, { block_size: 64 }]),
  );
  const [one, ...rest] = told(many);
  assert.match(one!, /and 299 more entries has no effect/);
  assert.deepEqual(rest, []);
  assert.match(told({ a: { format: "fp16", simple: true } })[0]!, /^simple of .*"format": "fp16"/);
  assert.match(told({ a: { skip: true, convrot: 16 } })[0]!, /^convrot of .*"skip": true/);
});

Deno.test("idleOverrides() reports the block sizes of flags", () => {
  const flags = { customLayers: "a", customBlockSize: 64 };
  assert.deepEqual(told({ a: {} }, { flags }), [
    "--custom-block-size has no effect with row scaling; it applies only to block scaling",
  ]);
  assert.deepEqual(told({ a: {} }, { flags: { ...flags, customScalingMode: "block" } }), []);
  assert.equal(told({ a: {} }, { flags: { fallback: "int8", fallbackBlockSize: 64 } }).length, 1);
});
