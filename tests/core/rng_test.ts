import assert from "node:assert/strict";
import { fillNormal, randomFor } from "../../src/core/rng.ts";

Deno.test("randomFor() gives the same numbers for the same seed and name, others for others", () => {
  const take = (seed: number, name: string) => {
    const next = randomFor(seed, name);
    return Array.from({ length: 8 }, next);
  };
  assert.deepEqual(take(7, "a.weight"), take(7, "a.weight"));
  const all = [[7, "a.weight"], [8, "a.weight"], [7, "b.weight"], [
    7 + 2 ** 40,
    "a.weight",
  ]] as const;
  assert.equal(new Set(all.map(([seed, name]) => take(seed, name).join())).size, 4);
});

Deno.test("randomFor() is pinned, so that files can be made again", () => {
  const next = randomFor(0, "");
  assert.deepEqual([next(), next(), next()], [2255206023, 406727844, 848024906]);
});

Deno.test("fillNormal() has mean 0, deviation 1 and some values beyond 3", () => {
  const values = new Float32Array(1 << 16);
  fillNormal(values, randomFor(1, "normal"));
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const variance = values.reduce((sum, x) => sum + x * x, 0) / values.length;
  assert(Math.abs(mean) < 0.02 && Math.abs(variance - 1) < 0.03, `${mean}, ${variance}`);
  const far = values.filter((x) => Math.abs(x) > 3).length / values.length;
  assert(far > 0.001 && far < 0.005, `${far}`);
});
