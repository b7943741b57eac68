import assert from "node:assert/strict";
import { PoolKeeper } from "../../src/run/workers/pool_keeper.ts";
import { EarlyWorker } from "../../src/run/workers/run_thread.ts";
import { WORKER_URL } from "../support/encode.ts";

Deno.test("EarlyWorker.take() hands its thread to the first pool alone, and disposing it after that leaves the pool's threads", async () => {
  const early = new EarlyWorker(WORKER_URL);
  using pools = new PoolKeeper(WORKER_URL, early);
  const pool = pools.take(2);
  assert.equal(pool.size, 2);
  assert.equal(early.take(), null);
  early[Symbol.dispose]();
  const numbers = await pool.run({ inputPaths: [], outputs: [], tasks: [] });
  assert.deepEqual(numbers, []);
});

Deno.test("EarlyWorker that nobody takes ends when it is disposed", () => {
  using early = new EarlyWorker(WORKER_URL);
  assert.ok(early);
});
