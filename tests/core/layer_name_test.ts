import assert from "node:assert/strict";
import { isWeightName, layerName, layerPrefix } from "../../src/core/layer_name.ts";

Deno.test("layerName() takes the end `.weight` off, once, and nothing else", () => {
  const names = [
    ["blocks.0.q.weight", "blocks.0.q"],
    ["a.weight.weight", "a.weight"],
    ["blocks.0.q.weight_scale", "blocks.0.q.weight_scale"],
    ["overweight", "overweight"],
    ["weight", "weight"],
    ["", ""],
  ];
  for (const [name, layer] of names) assert.equal(layerName(name!), layer);
  assert(isWeightName("a.weight") && !isWeightName("overweight") && !isWeightName("a.weight.b"));
});

Deno.test("layerPrefix() is shared by all tensors of a layer, and by no other tensor", () => {
  for (const end of ["weight", "weight_scale", "comfy_quant", "bias"]) {
    assert.equal(layerPrefix(`blocks.0.q.${end}`), "blocks.0.q.");
  }
  assert.equal(layerPrefix("blocks.0.q"), "blocks.0.");
  assert.equal(layerPrefix("scale"), "scale");
});
