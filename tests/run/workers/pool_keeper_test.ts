import assert from "node:assert/strict";
import { PoolKeeper } from "../../../src/run/workers/pool_keeper.ts";

const WORKER = new URL("../../../src/run/workers/worker.ts", import.meta.url);

Deno.test("PoolKeeper gives the same workers again, until another number is asked for or they are dropped", () => {
  using keeper = new PoolKeeper(WORKER);
  const first = keeper.take(1);
  assert.equal(keeper.take(1), first);
  const two = keeper.take(2);
  assert.equal(two.size, 2);
  keeper.drop();
  assert.notEqual(keeper.take(2), two);
});
