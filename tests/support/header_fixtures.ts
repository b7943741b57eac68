/** Small safetensors files, valid or deliberately not, in memory or in a folder of their own. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { DType } from "../../src/core/dtype.ts";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { layoutTensors } from "../../src/safetensors/layout.ts";

/** A tensor of a file to be made. */
export interface FixtureTensor extends TensorInfo {
  /** Its bytes; if omitted, they count up from 1. */
  readonly data?: Uint8Array;
}

/** Returns a tensor of a file to be made. */
export function tensor(
  name: string,
  dtype: DType,
  shape: readonly number[],
  data?: Uint8Array,
): FixtureTensor {
  return data === undefined ? { name, dtype, shape } : { name, dtype, shape, data };
}

/** Returns a `L.comfy_quant` tensor that holds `json` (an object, or the text itself). */
export function marker(layer: string, json: unknown): FixtureTensor {
  const text = typeof json === "string" ? json : JSON.stringify(json);
  const data = new TextEncoder().encode(text);
  return tensor(`${layer}.comfy_quant`, "U8", [data.length], data);
}

/** Returns the bytes of a valid safetensors file. */
export function safetensors(
  tensors: readonly FixtureTensor[],
  metadata: Readonly<Record<string, string>> | null = null,
): Uint8Array {
  const layout = layoutTensors(tensors, metadata);
  const file = new Uint8Array(layout.totalBytes);
  file.set(layout.header);
  const given = new Map(tensors.map(({ name, data }) => [name, data]));
  for (const { name, offsetBytes, byteLength } of layout.entries) {
    const data = given.get(name) ??
      Uint8Array.from({ length: byteLength }, (_, i) => (i + 1) & 255);
    if (data.length !== byteLength) throw new RangeError(`${name}: ${data.length} bytes given`);
    file.set(data, offsetBytes);
  }
  return file;
}

/** Returns a file whose JSON is exactly `json`, unpadded, followed by `dataBytes` zero bytes. */
export function rawFile(json: string | Uint8Array, dataBytes = 0): Uint8Array {
  const text = typeof json === "string" ? new TextEncoder().encode(json) : json;
  const file = new Uint8Array(8 + text.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  return file;
}

/** A folder that is removed with all it holds when disposed. */
export class TempFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "quantsmith-test-"));

  /** Writes a file, making the folders above it, and returns its path. */
  write(name: string, data: Uint8Array | string): string {
    const path = join(this.path, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, data);
    return path;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
