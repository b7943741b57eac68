import assert from "node:assert/strict";
import { PoolKeeper } from "../../src/run/workers/pool_keeper.ts";
import { EarlyWorkers } from "../../src/run/workers/run_thread.ts";
import { earlyWorkers } from "../../src/cli/early_workers.ts";
import { parseArgs } from "../../src/cli/parse.ts";
import { WORKER_URL } from "../support/encode.ts";

for (const count of [1, 2, 3]) {
  Deno.test(`EarlyWorkers.take() hands ${count} threads over to pools alone, and disposing it after that leaves the pool's threads`, async () => {
    using early = new EarlyWorkers(WORKER_URL, { count });
    using pools = new PoolKeeper(WORKER_URL, early);
    const pool = pools.take(2);
    assert.equal(pool.size, 2);
    const left = early.take(9);
    for (const thread of left) thread.terminate();
    assert.equal(left.length, Math.max(0, count - 2));
    early[Symbol.dispose]();
    const numbers = await pool.run({ inputPaths: [], outputs: [], tasks: [] });
    assert.deepEqual(numbers, []);
  });
}

Deno.test("EarlyWorkers that nobody takes end when they are disposed", () => {
  using early = new EarlyWorkers(WORKER_URL, { count: 2 });
  assert.ok(early);
});

Deno.test("earlyWorkers() starts two for methods beyond rounding to nearest, within --workers and limits of memory", () => {
  const of = (...flags: string[]) => earlyWorkers(parseArgs(["in.safetensors", ...flags]));
  assert.deepEqual(of("--workers", "4"), { count: 1, loadsMoreKinds: false });
  const data = ["--calibration-data", "x.safetensors"];
  assert.deepEqual(of(...data, "--workers", "4"), { count: 2, loadsMoreKinds: true });
  assert.deepEqual(of(...data, "--workers", "1"), { count: 1, loadsMoreKinds: true });
  assert.deepEqual(of(...data, "--workers", "4", "--low-memory").count, 1);
  assert.deepEqual(of(...data, "--workers", "4", "--memory-limit", "2").count, 1);
});
