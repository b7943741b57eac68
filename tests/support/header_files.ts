/**
 * The headers of real checkpoints and LoRAs (`tests/headers/`), as tensor lists and as sparse files:
 * the true names, dtypes, shapes and size, and zeros for weights that take no room on disk.
 */

import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { DType } from "../../src/core/dtype.ts";
import type { TensorInfo } from "../../src/core/tensor.ts";
import { layoutTensors } from "../../src/safetensors/layout.ts";

/** One packed header. */
interface PackedHeader {
  readonly name: string;
  /** `dump`: captured from a file; `generated`: built from the published configuration. */
  readonly src: "dump" | "generated";
  /** Number of layers that the official rule quantizes. */
  readonly rule: number;
  /** Number of 2-D weights that are I8 or F8 already. */
  readonly quantized: number;
  readonly tensors: Readonly<Record<string, readonly [DType, readonly number[]]>>;
}

const PACKED: ReadonlyMap<string, PackedHeader> = new Map(
  (JSON.parse(
    gunzipSync(readFileSync(new URL("../headers/headers.json.gz", import.meta.url))).toString(),
  ) as PackedHeader[]).map((header) => [header.name, header]),
);

/** The names of all packed headers. */
export const HEADER_NAMES: readonly string[] = [...PACKED.keys()];

function packed(name: string): PackedHeader {
  const header = PACKED.get(name);
  if (header === undefined) throw new RangeError(`No packed header is named "${name}"`);
  return header;
}

/** Returns how many layers of `name` the official rule quantizes, and how many are quantized. */
export function headerFacts(name: string): { readonly rule: number; readonly quantized: number } {
  const { rule, quantized } = packed(name);
  return { rule, quantized };
}

/** Returns the tensors of the real checkpoint `name`. */
export function loadHeader(name: string): TensorInfo[] {
  return Object.entries(packed(name).tensors)
    .map(([tensor, [dtype, shape]]) => ({ name: tensor, dtype, shape }));
}

/** Returns `tensors` with int8 weight codes as the BF16 weights they dequantize to. */
export function dequantized(tensors: readonly TensorInfo[]): TensorInfo[] {
  return tensors.map((tensor) =>
    tensor.dtype === "I8" && tensor.name.endsWith(".weight")
      ? { ...tensor, dtype: "BF16" as const }
      : tensor
  );
}

/**
 * Writes the checkpoint `name` into `dir` as a sparse safetensors file of its full size and returns
 * the path. Weights and scales are zero; `comfy_quant` markers hold their JSON; files whose FP8 layers
 * have no marker list them in `_quantization_metadata`, as the originals do.
 */
export function writeSparseModel(name: string, dir: string): string {
  const tensors = loadHeader(name);
  const layout = layoutTensors(tensors, quantizationMetadata(tensors));
  const path = join(dir, `${name}.safetensors`);
  const fd = openSync(path, "w");
  try {
    writeSync(fd, layout.header, 0, layout.header.length, 0);
    ftruncateSync(fd, layout.totalBytes);
    for (const entry of layout.entries) {
      if (!entry.name.endsWith(".comfy_quant")) continue;
      const marker = new TextEncoder().encode(
        markerJson(entry.byteLength).padEnd(entry.byteLength),
      );
      if (marker.length !== entry.byteLength) {
        throw new RangeError(`No marker of ${entry.byteLength} bytes is known`);
      }
      writeSync(fd, marker, 0, marker.length, entry.offsetBytes);
    }
  } finally {
    closeSync(fd);
  }
  return path;
}

/** The markers in use differ in length. */
function markerJson(length: number): string {
  const format = '{"format": "int8_tensorwise"';
  if (length < 72) return `${format}}`;
  const rotated = `${format}, "convrot": true, "convrot_groupsize": 256`;
  return length < 89 ? `${rotated}}` : `${rotated}, "per_row": true}`;
}

function quantizationMetadata(tensors: readonly TensorInfo[]): Record<string, string> | null {
  const names = new Set(tensors.map((tensor) => tensor.name));
  const layers = tensors
    .filter(({ name, dtype }) => name.endsWith(".weight") && dtype === "F8_E4M3")
    .map(({ name }) => name.slice(0, -".weight".length))
    .filter((layer) => names.has(`${layer}.weight_scale`) && !names.has(`${layer}.comfy_quant`));
  if (layers.length === 0) return null;
  const formats = layers.map((layer) => [layer, { format: "float8_e4m3fn" }]);
  return {
    _quantization_metadata: JSON.stringify({
      format_version: "1.0",
      layers: Object.fromEntries(formats),
    }),
  };
}
