import assert from "node:assert/strict";
import { join } from "node:path";
import { convertToInt8 } from "../../src/convert/convert_to_int8.ts";
import { temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";
import { syntheticLayer } from "../support/synthetic_layer.ts";
import { Stages } from "../../src/run/staged_progress.ts";

Deno.test("Stages reports one progress, in which every stage has the share of its bytes", () => {
  const seen: [number, number, string][] = [];
  const stages = new Stages(
    [["weights", 300], ["biases", 0], ["outputs", 100]],
    ({ doneBytes, totalBytes, current }) => seen.push([doneBytes, totalBytes, current]),
  );
  stages.of("weights")!({ doneBytes: 100, totalBytes: 200, current: "a" });
  stages.of("weights")!({ doneBytes: 200, totalBytes: 200, current: "b" });
  stages.of("biases")!({ doneBytes: 5, totalBytes: 10, current: "b.bias" });
  // Foreseen as 100 bytes, it turned out to be 80.
  stages.of("outputs")!({ doneBytes: 40, totalBytes: 80, current: "a" });
  stages.of("outputs")!({ doneBytes: 80, totalBytes: 80, current: "" });
  assert.deepEqual(seen, [
    [150, 400, "a"],
    [300, 400, "b"],
    [300, 400, "b.bias"],
    [350, 400, "a"],
    [400, 400, ""],
  ]);
  assert.equal(new Stages([["weights", 1]], undefined).of("weights"), undefined);
});

Deno.test("a conversion that corrects biases and measures outputs has one progress, from 0 to all", async () => {
  using folder = temporaryFolder();
  const input = join(folder.path, "in.safetensors"), data = join(folder.path, "data.safetensors");
  const { weight, inputs } = syntheticLayer({ rows: 512, cols: 256, seed: 4 });
  writeModel(input, [
    tensorOf("blocks.0.lin.weight", "F32", [512, 256], weight),
    tensorOf("blocks.0.lin.bias", "F32", [512], new Float32Array(512).fill(1)),
  ]);
  writeModel(data, [tensorOf("blocks.0.lin.activations", "F32", [64, 256], inputs(64, 1))]);
  const seen: { doneBytes: number; totalBytes: number }[] = [];
  const { layers } = await convertToInt8({
    input,
    outputPath: join(folder.path, "out.safetensors"),
    calibrationPath: data,
    workers: 1,
    onProgress: (now) => seen.push(now),
  });
  assert.ok(layers[0]!.output !== null && layers[0]!.bias !== null);
  const all = seen[0]!.totalBytes;
  // Weight and bias as they are read at first; the weight and its codes in both steps after.
  assert.equal(all, 4 * 512 * 257 + 2 * 5 * 512 * 256);
  assert.ok(seen.length >= 3);
  seen.forEach(({ doneBytes, totalBytes }, i) => {
    assert.equal(totalBytes, all);
    assert.ok(doneBytes >= (seen[i - 1]?.doneBytes ?? 0), `${doneBytes} after more`);
  });
  assert.equal(seen.at(-1)!.doneBytes, all);
});
