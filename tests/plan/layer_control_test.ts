import assert from "node:assert/strict";
import { parseLayerConfig } from "../../src/config/layer_config.ts";
import {
  type LayerFlags,
  NO_LAYER_FLAGS,
  type OverrideSources,
  readLayerFlags,
} from "../../src/config/layer_overrides.ts";
import { UsageError } from "../../src/core/errors.ts";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { type DecidedLayer, layerControl } from "../../src/plan/layer_control.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import type { LayerDecision } from "../../src/presets/preset.ts";

const TENSORS: TensorInfo[] = ["a.0.q", "a.1.q", "b.0.q", "head", "embed_tokens"].map((name) => ({
  name: `${name}.weight`,
  dtype: "BF16",
  shape: [64, 64],
}));

function sources(config: unknown, flags: Partial<LayerFlags> = {}): OverrideSources {
  return {
    config: config === null ? null : parseLayerConfig(JSON.stringify(config), "l.json"),
    fullmatch: false,
    flags: readLayerFlags({ ...NO_LAYER_FLAGS, ...flags }),
  };
}

/** The decision for each layer if a keep-list has the head, and embeddings are kept. */
function fates(
  layers: OverrideSources,
  options: Partial<ConvertOptions> = {},
): Record<string, DecidedLayer> {
  const control = layerControl(TENSORS, { ...DEFAULT_CONVERT_OPTIONS, ...options, layers });
  return Object.fromEntries(TENSORS.map((tensor) => {
    const isKept = /^(head|embed)/.test(tensor.name);
    const decision: LayerDecision = isKept
      ? { action: "keep", reason: "keep-list" }
      : { action: "quantize", reason: "balanced" };
    return [tensor.name.replace(".weight", ""), control(tensor, decision)];
  }));
}

Deno.test("layerControl() overrides mode, output and marker layer by layer, naming the origin", () => {
  const got = fates(sources({
    "a\\.0": { format: "fp16" },
    "a\\.1": { scaling_mode: "block", block_size: 32, simple: true },
    "head": { format: "int8", full_precision_matrix_mult: true },
    "_default": { convrot: 16 },
  }));
  assert.equal(got["a.0.q"]!.action, "cast");
  assert.equal(got["a.0.q"]!.reason, 'layer config "a\\\\.0"');
  const { mode, reason } = got["a.1.q"]!;
  assert.deepEqual([mode.scaling, mode.blockSize, mode.convrot], ["block", 32, "off"]);
  assert.equal(mode.scaleSearch, "off");
  assert.equal(reason, 'balanced; layer config "a\\\\.1"');
  assert.equal(got["head"]!.action, "quantize");
  assert.equal(got["head"]!.options.fullPrecisionMatrixMult, true);
  assert.equal(got["head"]!.mode.convrot, "auto");
  assert.equal(got["b.0.q"]!.mode.convrot, 16);
  assert.equal(got["b.0.q"]!.reason, "balanced; layer config _default");
  // `_default` does not unkeep.
  assert.deepEqual(
    [got["embed_tokens"]!.action, got["embed_tokens"]!.reason],
    ["keep", "keep-list"],
  );
});

Deno.test("layerControl() quantizes named layers under --fp16 and keeps skipped ones", () => {
  const got = fates(sources({ "^a": { format: "int8" }, "b": { skip: true } }), { output: "fp16" });
  assert.deepEqual(
    ["a.0.q", "b.0.q", "head"].map((name) => got[name]!.action),
    ["quantize", "keep", "keep"],
  );
  assert.equal(
    fates(sources({ "^a": { block_size: 8 } }), { output: "fp16" })["b.0.q"]!.action,
    "cast",
  );
});

Deno.test("layerControl() gives --fallback to keep-lists, not to embeddings, which patterns get", () => {
  const got = fates(sources(null, { fallback: "fp16" }));
  assert.deepEqual([got["head"]!.action, got["head"]!.reason], ["cast", "--fallback fp16"]);
  assert.equal(got["embed_tokens"]!.action, "keep");
  assert.equal(got["a.0.q"]!.reason, "balanced");
  const custom = fates(sources(null, { customLayers: "embed", customScalingMode: "tensor" }));
  assert.deepEqual(
    [custom["embed_tokens"]!.action, custom["embed_tokens"]!.mode.scaling],
    ["quantize", "tensor"],
  );
});

Deno.test("layerControl() lets a named format win over the target's", () => {
  const row = fates(sources({ "a": { format: "int8_axiswise" } }))["a.0.q"]!.mode;
  assert.deepEqual([row.scaling, row.target, row.convrot], ["row", "ctq", "off"]);
  const layers = sources({ "a": { format: "int8_tensorwise", scaling_mode: "row" } });
  const back = fates(layers, { target: "ctq", method: "simple" })["a.0.q"]!.mode;
  assert.deepEqual([back.scaling, back.target], ["row", "comfyui"]);
});

Deno.test("layerControl() refuses unknown layers and contradictions, naming them", () => {
  const refuses = (
    layers: OverrideSources,
    error: typeof UsageError,
    message: RegExp,
  ) =>
    assert.throws(() => fates(layers), (thrown: unknown) => {
      assert.ok(thrown instanceof error, String(thrown));
      assert.match(thrown.message, message);
      return true;
    });
  refuses(
    sources({ "a.0.w": { skip: true } }),
    UsageError,
    /l\.json.*"a\.0\.w" \(the nearest is "a\.0\.q"/,
  );
  refuses(sources(null, { customLayers: "heads" }), UsageError, /--custom-layers.*"heads".*"head"/);
  refuses(
    sources({ "a": { format: "int8_axiswise", convrot: 16 } }),
    UsageError,
    /layer config "a".*int8_axiswise/,
  );
  assert.throws(
    () => fates(sources({ "a": { convrot: 16 } }), { comfyQuant: false }),
    /layer config "a".*--no-comfy-quant/,
  );
});

Deno.test("layerControl() plans 2,000 entries on 2,000 layers, and no pattern makes it hang", () => {
  const names = Array.from({ length: 2000 }, (_, i) => `blocks.${i}.${"a".repeat(40)}`);
  const tensors = names.map((name): TensorInfo => ({
    name: `${name}.weight`,
    dtype: "BF16",
    shape: [64, 64],
  }));
  const config = Object.fromEntries([
    ...names.map((name) => [name, { skip: true }]),
    ["(a+)+$|(a|a)*b", { skip: true }],
  ]);
  const layers = sources(config);
  const control = layerControl(tensors, { ...DEFAULT_CONVERT_OPTIONS, layers });
  for (const tensor of tensors) {
    const fate = control(tensor, { action: "quantize", reason: "" });
    assert.equal(fate.reason, `layer config ${JSON.stringify(tensor.name.replace(".weight", ""))}`);
  }
});
