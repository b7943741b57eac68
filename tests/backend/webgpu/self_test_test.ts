import assert from "node:assert/strict";
import { findAdapter } from "../../../src/backend/webgpu/adapter.ts";
import { Gpu } from "../../../src/backend/webgpu/device.ts";
import { referenceLinalg } from "../../../src/backend/reference/linalg/reference_linalg.ts";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import { type RightKernels, selfTest } from "../../../src/backend/webgpu/self_test.ts";
import { WebGpuKernels } from "../../../src/backend/webgpu/webgpu_kernels.ts";
import { testGpuOnly } from "../../support/gpu.ts";

const reference: RightKernels = { kernels: referenceKernels, linalg: referenceLinalg };

testGpuOnly("selfTest() passes for every kernel on a device that is right", async (gpu) => {
  const checks = await selfTest(gpu, reference);
  assert.deepEqual(checks.filter(({ passed }) => !passed), []);
  const names = checks.map(({ kernel }) => kernel);
  const own = Object.getOwnPropertyNames(WebGpuKernels.prototype)
    .filter((name) => Object.hasOwn(referenceKernels, name) && name !== "name");
  assert(own.length > 10, `${own}`);
  for (const kernel of own) assert(names.includes(kernel), `${kernel} is not tested`);
  for (
    const kernel of [
      "gemmF32",
      "gemmF32 of f16",
      "gemmI8",
      "addLowRank",
      "feedBack",
      "ldlqBlock",
      "descendRows",
    ]
  ) {
    assert(names.includes(kernel), `${kernel} is not tested`);
  }
  const gemm = checks.find(({ kernel }) => kernel === "gemmI8");
  assert.equal(gemm!.detail, "same bits");
});

testGpuOnly("selfTest() names the kernel that differs, and the first wrong value", async (gpu) => {
  const checks = await selfTest(gpu, {
    kernels: {
      ...referenceKernels,
      absmax: (out, x, grid) => {
        referenceKernels.absmax(out, x, grid);
        out[2] = 5;
      },
    },
    linalg: {
      ...referenceLinalg,
      gemmF32: (c, a, b, mode) => {
        referenceLinalg.gemmF32(c, a, b, mode);
        c.data[7] = NaN;
      },
    },
  });
  const failed = checks.filter(({ passed }) => !passed);
  assert.deepEqual(failed.map(({ kernel }) => kernel), [
    "absmax",
    "gemmF32",
    "gemmF32 of f16",
    "scaledProduct",
  ]);
  assert.match(failed[0]!.detail, /^at 2: [\d.]+, should be 5$/);
  assert.match(failed[1]!.detail, /^at 7: -?[\d.]+, should be NaN$/);
});

testGpuOnly("selfTest() fails every kernel of a device that was lost", async () => {
  const gpu = await Gpu.open((await findAdapter())!);
  gpu.device.destroy();
  await gpu.device.lost;
  const checks = await selfTest(gpu, reference);
  assert(checks.length > 15 && checks.every(({ passed }) => !passed));
  assert.match(checks.at(-1)!.detail, /the device was lost/);
});
