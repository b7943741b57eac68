import assert from "node:assert/strict";
import {
  ALL_SHADERS,
  failuresWith,
  halfOfIt,
  permuted,
  problemsByShader,
} from "../../support/broken_shaders.ts";
import { testGpuOnly } from "../../support/gpu.ts";

const WAYS = { "half of its work is left out": halfOfIt, "its results are permuted": permuted };

for (const [way, broken] of Object.entries(WAYS)) {
  testGpuOnly(`selfTest() finds every shader that is broken: ${way}`, async (gpu) => {
    const problems = await problemsByShader(gpu);
    const missed: string[] = [];
    for (const shader of ALL_SHADERS) {
      const edited = broken(shader);
      assert.notEqual(edited, shader.code, `${shader.name} is not edited`);
      const failed = await failuresWith(gpu, shader, edited, problems.get(shader.name) ?? []);
      // A shader that does not compile would be found by anything.
      const isWrong = failed.every(({ detail }) => /should be/.test(detail));
      assert(isWrong, `${shader.name}: ${failed.map(({ detail }) => detail).join()}`);
      if (failed.length === 0) missed.push(shader.name);
    }
    assert.deepEqual(missed, []);
  });
}
