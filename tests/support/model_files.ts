/** Small safetensors files for tests, and their contents read back. */

import { readFileSync, writeFileSync } from "node:fs";
import type { DType } from "../../src/core/dtype.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { layoutTensors } from "../../src/safetensors/layout.ts";
import { UnifiedSafetensorsLoader } from "../../src/safetensors/loader.ts";

/** Writes `tensors` as a safetensors file. */
export function writeModel(
  path: string,
  tensors: readonly Tensor[],
  metadata: Record<string, string> | null = null,
): void {
  const layout = layoutTensors(tensors, metadata);
  const file = new Uint8Array(layout.totalBytes);
  file.set(layout.header);
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor.data]));
  for (const entry of layout.entries) file.set(byName.get(entry.name)!, entry.offsetBytes);
  writeFileSync(path, file);
}

/** All tensors of a file by name. */
export function readModel(path: string): Map<string, Tensor> {
  using loader = new UnifiedSafetensorsLoader(path, { lowMemory: false });
  return new Map(loader.keys().map((name) => [name, loader.getTensor(name)]));
}

/** A tensor from the bytes of a typed array. */
export function tensorOf(
  name: string,
  dtype: DType,
  shape: readonly number[],
  values: ArrayBufferView,
): Tensor {
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice();
  return { name, dtype, shape, data };
}

/** A temporary folder that is removed at the end of `using`. */
export function temporaryFolder(): { path: string; [Symbol.dispose](): void } {
  const path = Deno.makeTempDirSync({ prefix: "quantsmith-test-" });
  return { path, [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }) };
}

/** The bytes of a file. */
export function bytesOfFile(path: string): Uint8Array {
  return new Uint8Array(readFileSync(path));
}
