import assert from "node:assert/strict";
import { actOrder } from "../../src/linalg/permute.ts";

Deno.test("actOrder() puts the least important first, ties by index", () => {
  assert.deepEqual([...actOrder(Float64Array.of(3, 1, 2, 1, 0))], [4, 1, 3, 2, 0]);
});
