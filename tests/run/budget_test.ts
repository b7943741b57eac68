import assert from "node:assert/strict";
import { expectedBytes, SHARED_MAX_BYTES, workersWithin } from "../../src/run/budget.ts";

Deno.test("workersWithin() takes as many workers as the limit holds", () => {
  const needs = { arenaBytes: 5e6, tensorCount: 100 };
  assert.equal(workersWithin(needs, { wanted: 4, limitBytes: null }), 4);
  assert.equal(workersWithin(needs, { wanted: 4, limitBytes: expectedBytes(needs, 3) }), 3);
  assert.equal(workersWithin(needs, { wanted: 4, limitBytes: expectedBytes(needs, 3) - 1 }), 2);
  assert.throws(
    () => workersWithin(needs, { wanted: 4, limitBytes: expectedBytes(needs, 1) - 1 }),
    /needs \d+MB with one worker/,
  );
});

Deno.test("workersWithin() keeps all arenas within one WebAssembly memory", () => {
  const half = { arenaBytes: 2.1e9, tensorCount: 1 };
  assert.equal(workersWithin(half, { wanted: 8, limitBytes: null }), 2);
  const most = { arenaBytes: SHARED_MAX_BYTES, tensorCount: 1 };
  assert.equal(workersWithin(most, { wanted: 8, limitBytes: null }), 1);
  const more = { arenaBytes: SHARED_MAX_BYTES + 1, tensorCount: 1 };
  assert.throws(() => workersWithin(more, { wanted: 8, limitBytes: null }), /4\.3 GB of|4\.3 GB;/);
});
