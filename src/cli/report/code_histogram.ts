/** How often each code occurs in a stored weight: what the charts of a report show. */

import { FormatError } from "../../core/errors.ts";
import type { SourceTensor } from "../../core/tensor.ts";
import { isRefusal } from "../../formats/format.ts";
import type { PackedCodes } from "../../formats/matrix_source.ts";
import { countCodes, E4M3_LEVELS } from "../../formats/packed_codes.ts";
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

/** Dtypes that codes are stored as: integers, E4M3, and E2M1 in halves of bytes. */
const CODE_DTYPES = ["I8", "F8_E4M3", "U8"] as const;

/** Codes of a float of 8 bits: one in every byte. */
const ONE_BYTE: Pick<PackedCodes, "fields" | "levelCount"> = {
  fields: [{ firstByte: 0, bits: 8, highFirst: false }],
  levelCount: 256,
};

/** How often each code -127..127 occurs in a layer. */
export interface Histogram {
  readonly name: string;
  /** f64 `[255]`. */
  readonly counts: readonly number[];
}

/**
 * Returns how often each code occurs in the tensors `names`; those that are neither I8 nor floats of a quantized
 * layer are left out. Packed codes count as the integers that they stand for, or from the middle of their table on; floats
 * as their places among the floats, from 0 on. Reads in chunks of 1 MiB.
 *
 * @throws FormatError if one holds -128; RangeError if the file ends early.
 */
export function codeHistograms(model: ModelSource, names: readonly string[]): Histogram[] {
  const tensors = new Map(model.tensors.map((tensor) => [tensor.name, tensor]));
  const packed = packedLayers(model, new Set(names));
  return names.flatMap((name) => {
    const tensor = tensors.get(name), layer = packed.get(name);
    if (tensor === undefined || !(CODE_DTYPES as readonly string[]).includes(tensor.dtype)) {
      return [];
    }
    if (layer === undefined && tensor.dtype !== "I8") return [];
    const counts = layer === undefined
      ? plainHistogram(model, tensor)
      : packedHistogram(model, tensor, layer);
    return [{ name, counts }];
  });
}

function plainHistogram(model: ModelSource, tensor: SourceTensor): number[] {
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
      if (at < 0) throw new FormatError("it holds the code -128", { path, tensor: tensor.name });
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

/** Those of the weights `names` whose codes share bytes. The markers of the model are read once. */
function packedLayers(model: ModelSource, names: ReadonlySet<string>): Map<string, PackedLayer> {
  using reader = new TensorReader(model);
  const found = new Map<string, PackedLayer>();
  for (const layer of findQuantizedLayers(model, (tensor) => reader.read(tensor))) {
    const { weightName } = layer;
    if (weightName === null || !names.has(weightName)) continue;
    const matrix = decodeLayer(layer);
    if (isRefusal(matrix)) continue;
    const { rows, cols, dtype } = matrix;
    const floats = { ...ONE_BYTE, rowBytes: cols, levels: E4M3_LEVELS, scales: [] };
    const packed = matrix.packed ?? (dtype === "F8_E4M3" ? floats : null);
    if (packed !== null) found.set(weightName, { rows, cols, packed });
  }
  return found;
}

function packedHistogram(
  model: ModelSource,
  { file, offsetBytes, dtype }: SourceTensor,
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
    const place = dtype !== "I8"
      ? floatPlace(code, levelCount / 2)
      : levels instanceof Float32Array
      ? levels[code]!
      : code - levelCount / 2;
    const at = Math.max(0, Math.min(CODES - 1, ZERO + place));
    counts[at] = counts[at]! + count;
  });
  return counts;
}

/** The place of a float among those of its kind, 0 the one of 0: its highest bit is the sign, the others ascend. */
function floatPlace(code: number, sign: number): number {
  return code < sign ? code : sign - code;
}
