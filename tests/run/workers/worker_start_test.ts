import assert from "node:assert/strict";
import { join } from "node:path";
import { convertModel } from "../../../src/convert/convert.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../../src/plan/options.ts";
import { EarlyWorkers } from "../../../src/run/workers/run_thread.ts";
import { PoolKeeper } from "../../../src/run/workers/pool_keeper.ts";
import { randomValues, WORKER_URL } from "../../support/encode.ts";
import { temporaryFolder, tensorOf, writeModel } from "../../support/model_files.ts";

/** Converts a model of so many small layers by up to three workers; returns how many were started. */
async function startedFor(layers: number, { early }: { readonly early: number }): Promise<number> {
  using folder = temporaryFolder();
  const [input, output] = ["in", "out"].map((name) => join(folder.path, `${name}.safetensors`));
  writeModel(
    input!,
    Array.from(
      { length: layers },
      (_, i) => tensorOf(`${i}.weight`, "F32", [32, 64], randomValues(32 * 64, i)),
    ),
  );
  const { Worker: Original } = globalThis;
  let started = 0;
  globalThis.Worker = class extends Original {
    constructor(...args: ConstructorParameters<typeof Original>) {
      super(...args);
      started++;
    }
  };
  try {
    using threads = new EarlyWorkers(WORKER_URL, { count: early });
    using pools = new PoolKeeper(WORKER_URL, threads);
    const { layers: done } = await convertModel({
      input: input!,
      output: output!,
      options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" } },
      workerUrl: WORKER_URL,
      pools,
      workers: 3,
    });
    assert.equal(done.length, layers);
  } finally {
    globalThis.Worker = Original;
  }
  return started;
}

Deno.test("WorkerPool starts no more workers than there are chunks", async () => {
  assert.equal(await startedFor(1, { early: 0 }), 1);
  assert.ok(await startedFor(2, { early: 1 }) <= 2);
});

Deno.test("WorkerPool starts all workers for many chunks if none is ready", async () => {
  assert.equal(await startedFor(9, { early: 0 }), 3);
});

Deno.test("WorkerPool does all work if one worker is ready before the others", async () => {
  const started = await startedFor(40, { early: 1 });
  assert.ok(started >= 1 && started <= 3);
});
