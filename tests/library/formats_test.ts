/** Formats of few bits in the library: whole models take them, converters of single weights are INT8. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { convertToInt8, GPTQInt8Converter, QuIPInt8Converter } from "../../mod.ts";
import { seededFloats } from "../lora/floats.ts";
import { readModel, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

Deno.test("convertToInt8() writes each format, and a fitted table", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors"),
    outputPath = join(folder.path, "o.safetensors");
  writeModel(input, [tensorOf("a.lin.weight", "F32", [32, 256], seededFloats(32 * 256, 3))]);
  const write = async (more: object) => {
    const request = { input, outputPath, preset: "none", force: true, workers: 1 };
    await convertToInt8({ ...request, ...more });
    const model = readModel(outputPath);
    const marker = new TextDecoder().decode(model.get("a.lin.comfy_quant")!.data);
    return { model, format: JSON.parse(marker).format as string };
  };
  for (
    const [output, format] of [
      ...[["w6a8", "asym_w4a8_int8"], ["w4a8", "asym_w4a8_int8"], ["w4a4", "convrot_w4a4"]],
      ...[["fp8", "float8_e4m3fn"], ["mxfp8", "mxfp8"], ["nvfp4", "nvfp4"]],
    ] as const
  ) {
    assert.equal((await write({ output })).format, format);
  }
  const tableOf = ({ model }: Awaited<ReturnType<typeof write>>) =>
    model.get("a.lin.weight_codebook")!.data;
  const groups = { output: "w4a8", groupSize: 64 };
  const plain = tableOf(await write(groups));
  assert.notDeepEqual(tableOf(await write({ ...groups, codebook: "fit" })), plain);
  await assert.rejects(write({ output: "w6a8", codebook: "fit" }), /only w4a8 has a table/);
});

Deno.test("converters of single weights refuse other formats than INT8, and name what they take", () => {
  for (const Converter of [GPTQInt8Converter, QuIPInt8Converter]) {
    for (const more of [{ output: "w4a8" }, { groupSize: 64 }, { codebook: "fit" }]) {
      assert.throws(() => new Converter(more as never), /Unknown option .* there are .*blockSize/);
    }
  }
});
