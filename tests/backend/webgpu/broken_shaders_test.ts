import assert from "node:assert/strict";
import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import type { Gpu } from "../../../src/backend/webgpu/device.ts";
import { problemsOf, selfTest } from "../../../src/backend/webgpu/self_test.ts";
import type { Shader } from "../../../src/backend/webgpu/shader.ts";
import { ALL_SHADERS, halfOfIt, permuted } from "../../support/broken_shaders.ts";
import { testGpuOnly } from "../../support/gpu.ts";

const right = { kernels: referenceKernels, linalg: referenceLinalg };

/** The problems that each shader takes part in, so that not all are tried for each. */
async function problemsByShader(gpu: Gpu): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  const watched = Object.create(gpu, {
    device: { value: gpu.device },
    failure: { get: () => gpu.failure },
    buffers: { value: gpu.buffers },
    deadlines: { value: gpu.deadlines },
    layout: { value: (shader: Shader) => gpu.layout(shader) },
    forget: { value: (shader: Shader) => gpu.forget(shader) },
  }) as Gpu;
  for (const problem of problemsOf(null)) {
    Object.defineProperty(watched, "pipeline", {
      configurable: true,
      value: (shader: Shader) => {
        const known = found.get(shader.name) ?? [];
        if (!known.includes(problem)) found.set(shader.name, [...known, problem]);
        return gpu.pipeline(shader);
      },
    });
    await selfTest(watched, right, [problem]);
  }
  return found;
}

const WAYS = { "half of its work is left out": halfOfIt, "its results are permuted": permuted };

for (const [way, broken] of Object.entries(WAYS)) {
  testGpuOnly(`selfTest() finds every shader that is broken: ${way}`, async (gpu) => {
    const problems = await problemsByShader(gpu);
    const missed: string[] = [];
    for (const shader of ALL_SHADERS) {
      const own = problems.get(shader.name) ?? [], { code } = shader;
      const edited = broken(shader);
      assert.notEqual(edited, code, `${shader.name} is not edited`);
      gpu.forget(shader);
      gpu.buffers.trim(); // which hold right results of before
      (shader as { code: string }).code = edited;
      try {
        const checks = await selfTest(gpu, right, own);
        const failed = checks.filter(({ passed }) => !passed);
        // A shader that does not compile would be found by anything.
        const isWrong = failed.every(({ detail }) => /should be/.test(detail));
        assert(isWrong, `${shader.name}: ${failed.map(({ detail }) => detail).join()}`);
        if (failed.length === 0) missed.push(shader.name);
      } finally {
        (shader as { code: string }).code = code;
        gpu.forget(shader);
      }
    }
    assert.deepEqual(missed, []);
  });
}
