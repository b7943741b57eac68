/**
 * Numbers for kernels that are exact but for subnormal numbers (wgsl/README.md): WGSL lets devices take those for
 * zero, and some do.
 */

import { WebGpuKernels } from "../../src/backend/webgpu/webgpu_kernels.ts";
import { testGpu } from "../support/gpu.ts";

/** Products of two numbers from here on are no subnormal ones. */
const USUAL = 2 ** -60;

let flushes: Promise<boolean> | null = null;

/** Whether the device under test takes subnormal numbers for zero. */
export async function flushesSubnormals(): Promise<boolean> {
  return await (flushes ??= isFlushing());
}

async function isFlushing(): Promise<boolean> {
  if (testGpu === null) return false;
  const x = new Float32Array(4).fill(1e-40);
  await new WebGpuKernels(testGpu).rotate(x, 4);
  return x[0] === 0;
}

/** Returns `values` with what is tiny replaced by zero, if the device under test may take it for that. */
export async function asKept(values: Float32Array): Promise<Float32Array> {
  return await flushesSubnormals()
    ? values.map((value) => Math.abs(value) < USUAL ? 0 : value)
    : values;
}
