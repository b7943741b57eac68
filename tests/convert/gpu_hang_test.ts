import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { convertModel } from "../../src/convert/convert.ts";
import { fillNormal, randomFor } from "../../src/core/rng.ts";
import { DEFAULT_CONVERT_OPTIONS } from "../../src/plan/options.ts";
import { placementWithin } from "../../src/run/gpu_tasks.ts";
import { GpuService } from "../../src/run/workers/gpu_service.ts";
import { WORKER_URL } from "../support/encode.ts";
import { testGpuOnly } from "../support/gpu.ts";
import { bytesOfFile, temporaryFolder, tensorOf, writeModel } from "../support/model_files.ts";

const SRC = new URL("../../src/", import.meta.url).href;

/** Ways a driver may hang without losing its device, as code of its worker. `hangs` says from when on. */
const HANGS: Readonly<Record<string, string>> = {
  "results never come": `
const map = GPUBuffer.prototype.mapAsync;
GPUBuffer.prototype.mapAsync = function (...args) {
  return hangs() ? new Promise(() => {}) : map.apply(this, args);
};`,
  "it blocks its thread for good": `
const submit = GPUQueue.prototype.submit;
GPUQueue.prototype.submit = function (...args) {
  if (hangs()) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  return submit.apply(this, args);
};`,
};

/** A worker whose driver hangs from its batch number `from` on. */
function hangingWorker(folder: string, hang: string, from: number): URL {
  writeFileSync(
    join(folder, "hang.js"),
    `let count = 0;\nconst hangs = () => count++ >= ${from};${hang}\n`,
  );
  const path = join(folder, "worker.js");
  writeFileSync(path, `import "./hang.js";\nimport "${SRC}run/workers/worker.ts";\n`);
  return pathToFileURL(path);
}

/** Long enough to start a worker on a machine that does something else, too. */
const TIMES = { baseMs: 5000, workgroupMs: 0, graceMs: 1000 };

async function convert(folder: string, name: string, gpu: GpuService | null) {
  const output = join(folder, `${name}.safetensors`), failures: string[] = [];
  const result = await convertModel({
    input: join(folder, "in.safetensors"),
    output,
    options: { ...DEFAULT_CONVERT_OPTIONS, preset: { kind: "none" } },
    workerUrl: WORKER_URL,
    workers: 2,
    openGpu: () => Promise.resolve(gpu),
    onGpuFailure: (reason) => failures.push(reason),
  });
  return { result, bytes: bytesOfFile(output), failures };
}

for (const [way, hang] of Object.entries(HANGS)) {
  // Within the self-test of the device, and behind it: the work is done by the two workers then.
  for (
    const [when, from, remembered] of [["before it is used", 0, false], [
      "while it works",
      3,
      true,
    ]] as const
  ) {
    testGpuOnly(`convertModel() goes on without a GPU that hangs ${when}: ${way}`, async () => {
      using folder = temporaryFolder();
      writeModel(
        join(folder.path, "in.safetensors"),
        Array.from({ length: 12 }, (_, k) => {
          const values = new Float32Array(64 * 256);
          fillNormal(values, randomFor(k, "hang"));
          return tensorOf(`blocks.${k}.q.weight`, "F32", [64, 256], values);
        }),
      );
      const before = process.env["XDG_CACHE_HOME"];
      process.env["XDG_CACHE_HOME"] = folder.path;
      try {
        if (remembered) {
          using sound = await GpuService.start(WORKER_URL);
          assert(await sound.prove(["rounding", "searching scales", "rotating"]));
        }
        const onCpu = await convert(folder.path, "cpu", null);
        const worker = hangingWorker(folder.path, hang, from);
        const placementOf = ({ limits }: GpuService["adapter"]) => placementWithin(limits);
        using gpu = await GpuService.start(worker, placementOf, TIMES);
        const { bytes, failures, result } = await convert(folder.path, "gpu", gpu);
        assert.equal(failures.length, 1);
        assert.match(failures[0]!, /did not answer within|does not answer any more/);
        assert.deepEqual(bytes, onCpu.bytes);
        const { operations } = result.gpu!;
        assert(remembered ? operations > 0 && operations <= from : operations === 0);
      } finally {
        process.env["XDG_CACHE_HOME"] = before;
      }
    });
  }
}

testGpuOnly(
  "GpuService.start() gives up a driver that blocks its thread when it is opened",
  async () => {
    using folder = temporaryFolder();
    const blocked = `
GPUAdapter.prototype.requestDevice = function () {
  if (hangs()) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
};`;
    const worker = hangingWorker(folder.path, blocked, 0);
    const placementOf = ({ limits }: GpuService["adapter"]) => placementWithin(limits);
    await assert.rejects(
      GpuService.start(worker, placementOf, TIMES),
      /Cannot start the GPU: its driver does not answer/,
    );
  },
);
