import assert from "node:assert/strict";
import { DeviceError } from "../../../src/core/errors.ts";
import { Batch } from "../../../src/backend/webgpu/batch.ts";
import { BufferPool, sizeClass } from "../../../src/backend/webgpu/buffer_pool.ts";
import { findAdapter } from "../../../src/backend/webgpu/adapter.ts";
import { Gpu } from "../../../src/backend/webgpu/device.ts";
import { shader } from "../../../src/backend/webgpu/shader.ts";
import { WebGpuKernels } from "../../../src/backend/webgpu/webgpu_kernels.ts";
import { testGpuOnly } from "../../support/gpu.ts";

const broken = shader("broken", {
  code: "this is not WGSL",
  buffers: ["write"],
  params: { count: "u32" },
});

testGpuOnly(
  "Batch.run() tells what shader did not compile, and the device goes on",
  async (gpu) => {
    const batch = new Batch("nothing");
    const slot = batch.scratch("result", 4);
    batch.dispatch(broken, [slot], { count: 1 }, 1);
    batch.output(slot, new Uint32Array(1));
    await assert.rejects(batch.run(gpu), (error) => {
      assert(error instanceof DeviceError);
      assert.match(error.message, /^Cannot compute nothing on the GPU: /);
      return true;
    });
    assert.equal(gpu.failure, null);
    await rotatesRight(gpu);
  },
);

testGpuOnly(
  "Batch.run() reports a buffer that is too large, and the device goes on",
  async (gpu) => {
    const batch = new Batch("much");
    const slot = batch.scratch("result", 2 ** 40);
    batch.output(slot, new Uint32Array(1));
    await assert.rejects(batch.run(gpu), DeviceError);
    assert.equal(gpu.failure, null);
    await rotatesRight(gpu);
  },
);

testGpuOnly("Batch.run() on a device that was lost fails, and so do all after it", async () => {
  const gpu = await Gpu.open((await findAdapter())!);
  gpu.device.destroy();
  await assert.rejects(rotatesRight(gpu), DeviceError);
  await gpu.device.lost;
  assert.match(gpu.failure!.message, /lost/);
  await assert.rejects(rotatesRight(gpu), gpu.failure!);
});

testGpuOnly("several batches may be under way, each with its own results", async (gpu) => {
  await Promise.all(Array.from({ length: 8 }, () => rotatesRight(gpu)));
});

testGpuOnly("buffers are used again", async (gpu) => {
  await rotatesRight(gpu);
  const bytes = gpu.buffers.bytes;
  await rotatesRight(gpu);
  assert.equal(gpu.buffers.bytes, bytes);
});

Deno.test("sizeClass() is a multiple of 4, at least as large and at most a quarter larger", () => {
  for (const bytes of [1, 255, 256, 257, 1000, 1023, 1025, 999_999, 2 ** 27 - 4, 2 ** 27]) {
    const size = sizeClass(bytes);
    assert.equal(size % 4, 0);
    assert(size >= bytes && size <= Math.max(256, 1.25 * bytes), `${bytes}: ${size}`);
  }
});

Deno.test("BufferPool.take() rounds no size up beyond the largest buffer of the device", () => {
  const sizes: number[] = [];
  const device = {
    limits: { maxBufferSize: 1100 },
    createBuffer: ({ size }: { size: number }) => {
      sizes.push(size);
      return {};
    },
  };
  const pool = new BufferPool(device as unknown as GPUDevice);
  for (const bytes of [1025, 1099, 900, 5000]) pool.take("x", bytes, 0);
  // What does not fit at all is left to the device, which says so.
  assert.deepEqual(sizes, [1100, 1100, 1024, 5000]);
});

async function rotatesRight(gpu: Gpu): Promise<void> {
  const x = Float32Array.of(1, 0, 0, 0);
  await new WebGpuKernels(gpu).rotate(x, 4);
  assert.deepEqual([...x], [0.5, 0.5, 0.5, -0.5]);
}
