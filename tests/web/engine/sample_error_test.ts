import assert from "node:assert/strict";
import { join } from "node:path";
import { convertToInt8 } from "../../../src/convert/convert_to_int8.ts";
import { prepare } from "../../../src/convert/prepare.ts";
import { type GivenOptions, resolveOptions } from "../../../src/plan/resolve_options.ts";
import { overallErrors } from "../../../src/run/layer_statistics.ts";
import { openModel } from "../../../src/safetensors/reader.ts";
import { sampleError } from "../../../web/engine/sample_error.ts";
import { temporaryFolder } from "../../support/model_files.ts";
import { writeSyntheticModel } from "../../support/synthetic_model.ts";
import { fluxLikeTensors, MODEL_SIZES } from "../../support/synthetic_shapes.ts";

const WAYS: readonly GivenOptions[] = [
  {},
  { method: "simple", scaling: "row" },
  { output: "w6a8" },
  { output: "w4a8" },
];

Deno.test("sampleError() is near the error that the conversion has, in every format", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "model.safetensors");
  writeSyntheticModel(input, fluxLikeTensors(MODEL_SIZES.tiny), { seed: 4 });
  for (const [i, way] of WAYS.entries()) {
    const options = resolveOptions(way);
    const { model, plan } = prepare(openModel(input), options);
    const expected = sampleError(model, plan, options)!;
    const outputPath = join(folder.path, `${i}.safetensors`);
    const { layers } = await convertToInt8({ input, outputPath, ...way });
    const { relativeError } = overallErrors(layers)!;
    const ratio = expected / relativeError;
    assert.ok(ratio > 0.65 && ratio < 1.5, `${JSON.stringify(way)}: ${expected}, ${relativeError}`);
  }
});

Deno.test("sampleError() says nothing of methods that look at all of a layer", () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "model.safetensors");
  writeSyntheticModel(input, fluxLikeTensors(MODEL_SIZES.tiny), { seed: 4 });
  for (const way of [{ method: "original" }, { scaling: "tensor" }, { output: "fp16" }] as const) {
    const options = resolveOptions(way);
    const { model, plan } = prepare(openModel(input), options);
    assert.equal(sampleError(model, plan, options), null);
  }
});
