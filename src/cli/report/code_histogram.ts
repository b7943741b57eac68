/** How often each code occurs in a stored weight: what the charts of a report show. */

import { FormatError } from "../../core/errors.ts";
import type { SourceTensor } from "../../core/tensor.ts";
import { isRefusal } from "../../formats/format.ts";
import type { PackedCodes } from "../../formats/matrix_source.ts";
import { countCodes } from "../../formats/packed_codes.ts";
import { findQuantizedLayers } from "../../formats/quant_layers.ts";
import { decodeLayer } from "../../formats/stored_matrix.ts";
import { nameOfInput } from "../../remote/input_path.ts";
import { InputFiles } from "../../safetensors/input_files.ts";
import type { ModelSource } from "../../safetensors/model_source.ts";
import { TensorReader } from "../../safetensors/reader.ts";

/** Codes lie in -127..127: -128 is never written. */
const CODES = 255;
const ZERO = 127;

const CHUNK_BYTES = 1 << 20;

/**
 * Returns how many codes of tensor `name` are -127, -126, ..., 127: f64 `[255]`; null if the tensor
 * is not I8. Packed codes count as the integers that they stand for, or from the middle of their table on. Reads
 * the tensor in chunks of 1 MiB.
 *
 * @throws FormatError if it holds -128; RangeError if the file ends early.
 */
export function codeHistogram(model: ModelSource, name: string): number[] | null {
  const tensor = model.tensors.find((each) => each.name === name);
  if (tensor === undefined || tensor.dtype !== "I8") return null;
  const packed = packedLayer(model, name);
  if (packed !== null) return packedHistogram(model, tensor, packed);
  const path = nameOfInput(model.paths[tensor.file]!);
  const counts = new Array<number>(CODES).fill(0);
  const chunk = new Int8Array(Math.min(CHUNK_BYTES, tensor.byteLength));
  using files = new InputFiles(model.paths);
  for (let done = 0; done < tensor.byteLength; done += chunk.length) {
    const codes = chunk.subarray(0, tensor.byteLength - done);
    files.read(
      tensor.file,
      new Uint8Array(codes.buffer, 0, codes.length),
      tensor.offsetBytes + done,
    );
    for (const code of codes) {
      const at = code + ZERO;
      if (at < 0) throw new FormatError("it holds the code -128", { path, tensor: name });
      counts[at]!++;
    }
  }
  return counts;
}

/** A weight whose codes share bytes. */
interface PackedLayer {
  readonly rows: number;
  readonly cols: number;
  readonly packed: PackedCodes;
}

function packedLayer(model: ModelSource, name: string): PackedLayer | null {
  using reader = new TensorReader(model);
  const layers = findQuantizedLayers(model, (tensor) => reader.read(tensor));
  const layer = layers.find(({ weightName }) => weightName === name);
  const matrix = layer === undefined ? null : decodeLayer(layer);
  if (matrix === null || isRefusal(matrix) || matrix.packed === undefined) return null;
  const { rows, cols, packed } = matrix;
  return { rows, cols, packed };
}

function packedHistogram(
  model: ModelSource,
  { file, offsetBytes }: SourceTensor,
  layer: PackedLayer,
): number[] {
  const { rows, packed: { rowBytes, levels, levelCount } } = layer;
  const byCode = new Array<number>(levelCount).fill(0);
  const step = Math.max(1, Math.floor(CHUNK_BYTES / rowBytes));
  using files = new InputFiles(model.paths);
  for (let row = 0; row < rows; row += step) {
    const raw = new Uint8Array(Math.min(step, rows - row) * rowBytes);
    files.read(file, raw, offsetBytes + row * rowBytes);
    countCodes(byCode, raw, layer);
  }
  const counts = new Array<number>(CODES).fill(0);
  byCode.forEach((count, code) => {
    const place = levels instanceof Float32Array ? levels[code]! : code - levelCount / 2;
    const at = Math.max(0, Math.min(CODES - 1, ZERO + place));
    counts[at] = counts[at]! + count;
  });
  return counts;
}
