import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { convertModel } from "../../src/convert/convert.ts";
import type { LayerResult } from "../../src/convert/layer_result.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { randomValues, WORKER_URL } from "../support/encode.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

Deno.test("convertModel() hands over the layers of the result once, before the output has its name", async () => {
  using folder = temporaryFolder();
  const [input, output] = ["in", "out"].map((name) => join(folder.path, `${name}.safetensors`));
  const names = ["b.weight", "a.weight"];
  writeModel(
    input!,
    names.map((name, i) => tensorOf(name, "F32", [32, 64], randomValues(32 * 64, i))),
  );
  const seen: { layers: readonly LayerResult[]; isNamed: boolean }[] = [];
  const result = await convertModel({
    input: input!,
    output: output!,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" } },
    workerUrl: WORKER_URL,
    workers: 1,
    onWritten: (layers) => seen.push({ layers, isNamed: existsSync(output!) }),
  });
  assert.deepEqual(seen, [{ layers: result.layers, isNamed: false }]);
  assert.equal(result.layers.length, 2);
});
