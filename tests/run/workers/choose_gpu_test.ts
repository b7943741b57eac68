import assert from "node:assert/strict";
import process from "node:process";
import { chooseGpu } from "../../../src/run/workers/choose_gpu.ts";
import { WORKER_URL } from "../../support/encode.ts";

Deno.test("chooseGpu() takes the CPU by itself if CUDA_VISIBLE_DEVICES hides every device", async () => {
  const before = process.env["CUDA_VISIBLE_DEVICES"];
  try {
    for (const devices of ["", "-1"]) {
      process.env["CUDA_VISIBLE_DEVICES"] = devices;
      const said: string[] = [];
      const log = { warn: () => {}, verbose: (line: string) => said.push(line) };
      assert.equal(await chooseGpu("auto", { workerUrl: WORKER_URL, log }), null);
      assert.match(said.join(), /^no GPU: CUDA_VISIBLE_DEVICES hides all/);
    }
  } finally {
    if (before === undefined) delete process.env["CUDA_VISIBLE_DEVICES"];
    else process.env["CUDA_VISIBLE_DEVICES"] = before;
  }
});
