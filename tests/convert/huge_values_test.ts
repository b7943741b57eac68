import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fillNormal, randomFor } from "../../src/core/rng.ts";
import { convertModel } from "../../src/convert/convert.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import type { LayerErrors } from "../../src/run/layer_statistics.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { WORKER_URL } from "../support/encode.ts";

/** Converts one layer of weights of this size; returns its errors. */
async function errorsAt(
  size: number,
  changes: Partial<ConvertOptions> = {},
  dtype: "F32" | "F64" = "F32",
): Promise<LayerErrors> {
  using folder = temporaryFolder();
  const input = join(folder.path, "m.safetensors"), output = join(folder.path, "out.safetensors");
  const normal = new Float32Array(64 * 512);
  fillNormal(normal, randomFor(1, "weights"));
  const weights = Array.from(normal, (value) => Math.max(-1, Math.min(1, value / 2)) * size);
  const values = dtype === "F32" ? Float32Array.from(weights) : Float64Array.from(weights);
  writeModel(input, [tensorOf("blocks.0.lin.weight", dtype, [64, 512], values)]);
  try {
    const { layers } = await convertModel({
      input,
      output,
      options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" }, ...changes },
      workerUrl: WORKER_URL,
      workers: 1,
    });
    return layers[0]!.errors;
  } catch (error) {
    assert.deepEqual(readdirSync(folder.path), ["m.safetensors"]);
    throw error;
  }
}

Deno.test("convertModel() reports the same errors of weights of any size that F32 and the smallest scale hold", async () => {
  for (const scaling of ["row", "tensor", "block"] as const) {
    const expected = await errorsAt(1, { scaling });
    for (const size of [1e-25, 1e19, 1e30, 1e38]) {
      const { sqnrDb, relativeError, cosine } = await errorsAt(size, { scaling });
      assert(Math.abs(sqnrDb! - expected.sqnrDb!) < 0.2, `${scaling}, ${size}: ${sqnrDb} dB`);
      assert(Math.abs(relativeError / expected.relativeError - 1) < 0.03);
      assert(Math.abs(cosine - expected.cosine) < 1e-4);
    }
    // Below the smallest scale, 1e-30, all codes are zero: an error as large as the weights.
    assert.equal((await errorsAt(1e-38, { scaling })).relativeError, 1);
  }
});

Deno.test("convertModel() writes no scale of infinity, naming the tensor and what to do", async () => {
  const refused = /"blocks.0.lin.weight": .* exceed F32 \(3.4e38\); `--scaling_mode row` rounds it/;
  await assert.rejects(errorsAt(3e38), refused);
  const quip = { ...DEFAULT_CONVERT_OPTIONS.quip, storeTransformed: true };
  await assert.rejects(errorsAt(3e38, { method: "quip", quip }), refused);
});

Deno.test("convertModel() names values of F64 that F32 cannot hold as such", async () => {
  await assert.rejects(
    errorsAt(1e39, {}, "F64"),
    /\d+ values that F32, in which all is computed, cannot hold/,
  );
});
