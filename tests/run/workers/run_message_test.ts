import assert from "node:assert/strict";
import { join } from "node:path";
import { f32ToBf16 } from "../../../src/core/dtype.ts";
import { convertModel } from "../../../src/convert/convert.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../../src/plan/options.ts";
import { seededFloats } from "../../lora/floats.ts";
import { temporaryFolder, tensorOf, writeModel } from "../../support/model_files.ts";

const WORKER = new URL("../../../src/run/workers/worker.ts", import.meta.url);
const ROWS = 64, COLS = 256, RANK = 16, LAYERS = 20;

/** How many values Deno looks at in a message, in search of ports. */
function searched(value: unknown): number {
  if (typeof value !== "object" || value === null) return 1;
  let count = 1;
  for (const key in value) count += searched((value as Record<string, unknown>)[key]);
  return count;
}

Deno.test("WorkerPool sends tasks so that Deno searches neither them nor the LoRAs for ports", async () => {
  using folder = temporaryFolder();
  const [input, lora, output] = ["in", "lora", "out"].map((name) =>
    join(folder.path, `${name}.safetensors`)
  ) as [string, string, string];
  const names = Array.from({ length: LAYERS }, (_, i) => `blocks.${i}.q`);
  const weights = Uint16Array.from(seededFloats(ROWS * COLS, 1), f32ToBf16);
  writeModel(
    input,
    names.map((name) => tensorOf(`${name}.weight`, "BF16", [ROWS, COLS], weights)),
  );
  writeModel(
    lora,
    names.flatMap((name) => [
      tensorOf(`${name}.lora_A.weight`, "F32", [RANK, COLS], seededFloats(RANK * COLS, 2)),
      tensorOf(`${name}.lora_B.weight`, "F32", [ROWS, RANK], seededFloats(ROWS * RANK, 3)),
    ]),
  );
  const sent: number[] = [], { postMessage } = Worker.prototype;
  Worker.prototype.postMessage = function (this: Worker, message: object, ports?: unknown) {
    sent.push(searched(message));
    return postMessage.call(this, message, ports as StructuredSerializeOptions);
  };
  try {
    await convertModel({
      input,
      output,
      options: {
        ...DEFAULT_CONVERT_OPTIONS,
        preset: { kind: "none" },
        merge: { paths: [lora], scale: 1, dampen: true, strict: false },
      },
      workerUrl: WORKER,
      workers: 2,
      force: true,
    });
  } finally {
    Worker.prototype.postMessage = postMessage;
  }
  assert.ok(sent.length >= 2, "no message was seen");
  assert.ok(Math.max(...sent) < 100, `${Math.max(...sent)} values are searched`);
});
