import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { convertModel } from "../../../src/convert/convert.ts";
import type { GivenOptions } from "../../../src/plan/resolve_options.ts";
import { resolveOptions } from "../../../src/plan/resolve_options.ts";
import { matchCalibration } from "../../../src/calibration/calibration_match.ts";
import { calibrationOf } from "../../../src/convert/known_inputs.ts";
import { inWords } from "../../../web/page/in_words.ts";
import { markerTensor, WORKER_URL } from "../../support/encode.ts";
import { temporaryFolder, tensorOf, writeModel } from "../../support/model_files.ts";

const WEIGHT = new Float32Array(512 * 256).fill(1);

/** Messages of the program about refused models that a field of the page can help. */
async function refusals(folder: string): Promise<string[]> {
  const models = {
    quantized: [
      tensorOf("blocks.0.lin.weight", "I8", [512, 256], new Int8Array(512 * 256)),
      tensorOf("blocks.0.lin.weight_scale", "F32", [], Float32Array.of(1)),
      markerTensor("blocks.0.lin", { format: "int8_tensorwise" }),
    ],
    nan: [tensorOf("blocks.0.lin.weight", "F32", [512, 256], WEIGHT.map(() => NaN))],
    lora: [
      tensorOf(
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight",
        "F32",
        [4, 64],
        new Float32Array(256),
      ),
      tensorOf(
        "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight",
        "F32",
        [64, 4],
        new Float32Array(256),
      ),
    ],
    norms: [tensorOf("norm.weight", "F32", [8], new Float32Array(8))],
  };
  const said: string[] = [];
  for (const [name, tensors] of Object.entries(models)) {
    const input = join(folder, `${name}.safetensors`);
    writeModel(input, tensors);
    await assert.rejects(
      convertModel({
        input,
        output: join(folder, "out.safetensors"),
        options: resolveOptions({}),
        workerUrl: WORKER_URL,
        workers: 1,
      }),
      (error: Error) => said.push(error.message) > 0,
    );
  }
  return said;
}

Deno.test("inWords() names the fields of the page in every refusal that a field can change", async () => {
  using folder = temporaryFolder();
  const messages = await refusals(folder.path);
  assert.equal(messages.length, 4);
  for (const message of messages) {
    assert.match(message, /`--/);
    assert.doesNotMatch(inWords(message), /--/, message);
  }
});

Deno.test("inWords() names the fields of the page whose contents are refused", () => {
  const fields: readonly [given: GivenOptions, field: RegExp][] = [
    [{ excludeLayers: "((" }, /"\(\(" of "Also keep layers" under "More options": missing/],
    [{ merge: { paths: ["x"], scale: NaN } }, /NaN for "Strength" under "Files to add": a number/],
  ];
  for (const [given, field] of fields) {
    assert.throws(
      () => resolveOptions(given),
      (error: Error) => field.test(inWords(error.message)),
    );
  }
  using folder = temporaryFolder();
  const data = join(folder.path, "data.json");
  writeFileSync(data, "{}");
  assert.throws(
    () =>
      matchCalibration(calibrationOf({ ...resolveOptions({}), calibrationPath: data }, [])!, []),
    (error: Error) => /choose other data, or none/.test(inWords(error.message)),
  );
});
