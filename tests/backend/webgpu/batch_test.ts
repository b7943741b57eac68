import assert from "node:assert/strict";
import { DeviceError } from "../../../src/core/errors.ts";
import { Batch } from "../../../src/backend/webgpu/batch.ts";
import { BufferPool, sizeClass } from "../../../src/backend/webgpu/buffer_pool.ts";
import { Deadlines } from "../../../src/backend/webgpu/deadlines.ts";
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
  "Batch.run() names the shader that did not compile, and the device goes on",
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

const slow = shader("slow", {
  code: `
struct Params { count: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@compute @workgroup_size(1)
fn main() {
  var value = x[0];
  for (var i = 0u; i < params.count; i++) {
    value = value * 1664525u + 1013904223u + (value >> 7u);
  }
  x[0] = value;
}`,
  buffers: ["write"],
  params: { count: "u32" },
});

testGpuOnly("Batch.run() gives up a device that does not answer, and says so", async () => {
  using gpu = await Gpu.open((await findAdapter())!, new Deadlines({ baseMs: 50, workgroupMs: 0 }));
  const batch = new Batch("a long loop");
  const slot = batch.zeros("result", 4);
  // Software drivers end a single loop early, so that it takes many.
  batch.dispatch(slow, [slot], { count: 60_000 }, 4_000);
  batch.output(slot, new Uint32Array(1));
  await assert.rejects(batch.run(gpu), (error) => {
    assert(error instanceof DeviceError);
    assert.match(error.message, /did not answer within 0\.1 s \(a long loop\)/);
    return true;
  });
  assert.match(gpu.failure!.message, /did not answer/);
  await assert.rejects(rotatesRight(gpu), gpu.failure!);
});

Deno.test("Deadlines give a batch the time of those before it, and take it back", async () => {
  const deadlines = new Deadlines({ baseMs: 1000, workgroupMs: 1 });
  const failure = new DeviceError("late");
  const waited: number[] = [];
  const failed = (ms: number) => {
    waited.push(ms);
    return failure;
  };
  using _first = deadlines.start(500, failed);
  {
    using second = deadlines.start(0, failed);
    assert.equal(await second.within(Promise.resolve(5)), 5);
    await assert.rejects(second.within(Promise.reject(new Error("own"))), /own/);
  }
  const short = new Deadlines({ baseMs: 5, workgroupMs: 1 });
  using before = short.start(10, failed);
  using last = short.start(10, failed);
  await assert.rejects(last.within(new Promise(() => {})), failure);
  await assert.rejects(before.within(new Promise(() => {})), failure);
  assert.deepEqual(waited, [15, 30]);
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
  // A size that does not fit at all is left to the device, which says so.
  assert.deepEqual(sizes, [1100, 1100, 1024, 5000]);
});

async function rotatesRight(gpu: Gpu): Promise<void> {
  const x = Float32Array.of(1, 0, 0, 0);
  await new WebGpuKernels(gpu).rotate(x, 4);
  assert.deepEqual([...x], [0.5, 0.5, 0.5, -0.5]);
}
