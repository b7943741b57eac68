import assert from "node:assert/strict";
import { UsageError } from "../../src/core/errors.ts";
import { parseLayerConfig } from "../../src/config/layer_config.ts";
import { resolveMode } from "../../src/plan/scheme_choice.ts";
import { OPTION_ENTRIES } from "../../src/plan/option_schema.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { type GivenOptions, resolveOptions } from "../../src/plan/resolve_options.ts";

/** Asserts that `given` is refused with a message that `pattern` matches. */
function refuses(given: object, pattern: RegExp): void {
  assert.throws(() => resolveOptions(given as GivenOptions), (error: unknown) => {
    assert.ok(error instanceof UsageError, String(error));
    assert.match(error.message, pattern);
    return true;
  });
}

Deno.test("resolveOptions() gives the defaults if nothing, or undefined, is asked for", () => {
  assert.deepEqual(resolveOptions({}), DEFAULT_CONVERT_OPTIONS);
  const none = Object.fromEntries(Object.keys(OPTION_ENTRIES).map((name) => [name, undefined]));
  assert.deepEqual(resolveOptions(none), DEFAULT_CONVERT_OPTIONS);
  assert.ok(Object.isFrozen(resolveOptions({})));
});

Deno.test("resolveOptions() checks every option that a conversion has", () => {
  for (const name of Object.keys(DEFAULT_CONVERT_OPTIONS)) {
    refuses({ [name]: Symbol("no value") }, new RegExp(`^Cannot use Symbol.*for ${name}`));
  }
});

Deno.test("resolveOptions() refuses names that it does not know, with what was meant", () => {
  refuses({ scalng: "tensor" }, /Unknown option "scalng" of a conversion: the nearest is scaling$/);
  refuses({ optimizer: "gptq" }, /Unknown option "optimizer" of a conversion: it is method here/);
  refuses({ mergeLoraPath: "l" }, /"mergeLoraPath".*it is merge: \{paths\} here/);
  refuses({ merge_lora_path: "l" }, /"merge_lora_path".*it is merge: \{paths\} here/);
  refuses({ fp16: true }, /"fp16".*it is output: "fp16" here/);
  refuses({ block_size: 64 }, /"block_size".*the nearest is blockSize/);
  refuses({ quip: { sed: 1 } }, /"quip\.sed".*the nearest is seed/);
  refuses({ learned: { schedule: { kind: "plateau", gama: 1 } } }, /"learned\.schedule\.gama"/);
  refuses({ whatever: 1 }, /"whatever" of a conversion: there are target, output,/);
});

Deno.test("resolveOptions() refuses values of the wrong kind, naming option, value and rule", () => {
  const cases: readonly (readonly [object, RegExp])[] = [
    [{ convrot: 7 }, /^Cannot use 7 for convrot: "auto", "off" or a group.*a power of 4/],
    [{ convrot: 1 }, /a power of 4/],
    [{ blockSize: 0 }, /^Cannot use 0 for blockSize: a whole number from 1 to 65536 is needed$/],
    [{ blockSize: "64" }, /^Cannot use "64" for blockSize/],
    [{ smoothAlpha: 7 }, /^Cannot use 7 for smoothAlpha: a number from 0 to 1 is needed$/],
    [{ calibrationHoldout: 1 }, /calibrationHoldout: a number from 0 to 0\.9/],
    [{ method: "adam" }, /"adam" for method: one of auto, simple, gptq, quip, original/],
    [{ scaling: "rows" }, /"rows" for scaling/],
    [{ heur: 1 }, /^Cannot use 1 for heur: true or false is needed$/],
    [{ seed: -1 }, /seed: a whole number of at least 0/],
    [{ shardBytes: NaN }, /NaN for shardBytes/],
    [{ quip: { seed: 1.5 } }, /1\.5 for quip\.seed/],
    [{ quip: true }, /for quip: an object of the options of quip/],
    [{ segments: { count: 0 } }, /segments\.count/],
    [{ merge: { paths: [] } }, /merge\.paths: a LoRA is needed/],
    [{ merge: {} }, /merge/],
    [{ preset: { kind: "likes", path: "a" } }, /a preset is needed/],
    [{ preset: "wann" }, /Unknown preset "wann"/],
    [{ preset: { kind: "family", id: "wann" } }, /Unknown model family "wann"/],
    [{ excludeLayers: "(" }, /Cannot use pattern "\(" of excludeLayers/],
    [{ layerConfig: "layers.json" }, /layerConfig: what loadLayerConfig returns is needed/],
    [{ learned: { lr: NaN } }, /NaN for learned\.lr/],
    [{ learned: { iterations: 1.5 } }, /learned\.iterations: a whole number/],
    [{ learned: { topP: 1.1 } }, /learned\.topP: a number from 0 to 1/],
    [{ learned: { stopLr: Infinity } }, /learned\.stopLr/],
    [{ learned: { schedule: { kind: "exponential", gamma: 1.01 } } }, /schedule\.gamma/],
    [{ learned: { schedule: { kind: "plateau", patience: -1 } } }, /schedule\.patience/],
  ];
  for (const [given, pattern] of cases) refuses(given, pattern);
  assert.throws(() => resolveOptions(null as unknown as GivenOptions), /an object is needed/);
});

Deno.test("resolveOptions() refuses contradictions", () => {
  const cases: readonly (readonly [object, RegExp])[] = [
    [{ convrot: 64, scaling: "tensor" }, /convrot with scaling "tensor": rotation needs row/],
    [{ convrot: "auto", target: "ctq" }, /convrot with scaling "block"/],
    [{ convrot: 64, comfyQuant: false }, /convrot with comfyQuant false: only the comfy_quant/],
    [
      { method: "quip", quip: { storeTransformed: true }, scaling: "block" },
      /scaling "block" with quip\.storeTransformed true/,
    ],
    [{ learned: { minDirections: 9, maxDirections: 8 } }, /the fewest directions are more/],
    [
      { learned: { schedule: { kind: "plateau", min: 1 } } },
      /learned\.schedule\.min 1 with learned\.lr 0\.008077/,
    ],
  ];
  for (const [given, pattern] of cases) refuses(given, pattern);
});

Deno.test("resolveOptions() fills up what is given in part", () => {
  const { quip, segments, merge, learned } = resolveOptions({
    quip: { seed: 3 },
    segments: { count: 8 },
    merge: { paths: ["a.safetensors"], scale: 0.5 },
    learned: { maxDirections: 8, schedule: { kind: "plateau", patience: 3 } },
  });
  assert.deepEqual(quip, { ...DEFAULT_CONVERT_OPTIONS.quip, seed: 3 });
  assert.deepEqual(segments, { threshold: 8192, count: 8 });
  assert.deepEqual(merge, { paths: ["a.safetensors"], scale: 0.5, dampen: true, strict: false });
  assert.deepEqual([learned.minDirections, learned.maxDirections], [8, 8]);
  assert.deepEqual([learned.schedule.kind, "factor" in learned.schedule], ["plateau", true]);
});

Deno.test("resolveOptions() takes the layer options of the documents", () => {
  const config = parseLayerConfig('{"a": {"skip": true}}', "l.json");
  const { layers } = resolveOptions({
    layerConfig: config,
    fullmatch: true,
    customLayers: "b",
    customType: "int8",
    customScalingMode: "axis",
    fallback: "fp16",
  });
  assert.equal(layers?.config, config);
  assert.equal(layers?.fullmatch, true);
  assert.equal(layers?.flags.custom?.override.scaling, "row");
  assert.equal(layers?.flags.fallback?.output, "fp16");
  const { excludeLayers, preset, scaling, lora } = resolveOptions({
    excludeLayers: "^final",
    preset: "lora",
    scaling: "axis",
  });
  assert.ok(excludeLayers?.test("final.weight"));
  assert.deepEqual(preset, { kind: "documented", names: ["lora"] });
  assert.deepEqual([scaling, lora], ["row", true]);
});

Deno.test("resolveOptions() gives the target ctq the defaults of the documents", () => {
  const { method, preset } = resolveOptions({ target: "ctq" });
  assert.deepEqual([method, preset], ["original", { kind: "none" }]);
  assert.equal(resolveMode(resolveOptions({ target: "ctq" })).scaling, "block");
});

Deno.test("resolveMode() rotates rows by default in every method, unless original space is asked for", () => {
  const convrot = (given: GivenOptions) => resolveMode(resolveOptions(given)).convrot;
  for (const method of ["auto", "simple", "gptq", "quip", "original"] as const) {
    assert.equal(convrot({ method }), "auto", method);
    assert.equal(convrot({ method, scaling: "row" }), "off", method);
    assert.equal(convrot({ method, convrot: "off" }), "off", method);
  }
  const quip = (given: GivenOptions["quip"]) => convrot({ method: "quip", quip: given });
  assert.equal(quip({ requantScheme: "tensor" }), "off");
  assert.equal(quip({ requantScheme: "block" }), "off");
  assert.equal(quip({ perRow: false }), "off");
  assert.equal(quip({ storeTransformed: true }), "off");
  assert.equal(convrot({ method: "quip", target: "ctq" }), "off");
});
