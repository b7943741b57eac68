/** Buffers that outlive a batch: what a layer keeps on the device while its rows are worked on. */

import { DeviceError } from "../../core/errors.ts";
import type { ResidentSlot } from "./batch.ts";
import type { Gpu } from "./device.ts";
import { uploadable } from "./provide_webgpu.ts";
import { bufferBytes } from "./shader.ts";

/**
 * Creates a buffer of `bytes`, with the bytes of `view` if one is given: they have been read when this
 * returns. The caller destroys `slot.buffer`.
 *
 * @returns the buffer, and what resolves when it is known to exist, or rejects with a DeviceError.
 */
export function createResident(
  gpu: Gpu,
  label: string,
  { bytes, view = null }: { readonly bytes: number; readonly view?: ArrayBufferView | null },
): { slot: ResidentSlot; created: Promise<void> } {
  const { device } = gpu;
  for (const filter of ["internal", "out-of-memory", "validation"] as const) {
    device.pushErrorScope(filter);
  }
  let buffer: GPUBuffer;
  let scopes: Promise<(GPUError | null)[]>;
  try {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
    buffer = device.createBuffer({ label, size: bufferBytes(bytes), usage });
    if (view !== null) device.queue.writeBuffer(buffer, 0, uploadable(view));
  } finally {
    scopes = Promise.all([device.popErrorScope(), device.popErrorScope(), device.popErrorScope()]);
  }
  const created = scopes.then((errors) => {
    const error = errors.find((error) => error !== null);
    if (error) throw failureOf(label, error.message, error);
  }, (error: Error) => {
    throw gpu.failure ?? failureOf(label, error.message, error);
  });
  return { slot: { label, bytes, buffer }, created };
}

function failureOf(label: string, reason: string, cause: unknown): DeviceError {
  return new DeviceError(`Cannot keep ${label} on the GPU: ${reason}`, { cause });
}
