/**
 * Samples of calibration data: layers that read the same inputs (q, k and v of an attention) have the same rows,
 * byte for byte, and share what is made of them. A sample finds such layers without reading all rows; whoever
 * shares compares the rows themselves first.
 */

import { DTYPE_BITS } from "../core/dtype.ts";
import type { InputPath } from "../remote/input_path.ts";
import { crc32 } from "../safetensors/crc32.ts";
import { InputFiles } from "../safetensors/input_files.ts";
import type { LayerStatistic } from "./calibration.ts";

/** Pieces that are looked at, evenly spread, and their bytes. */
const PIECES = 8, PIECE_BYTES = 512;

/**
 * Returns the checksum of a sample of the rows of `statistic`; null if they are in no file on a disk, or there is
 * nothing to make of them that is worth sharing.
 *
 * @param paths of the calibration data.
 * @throws FileError if they cannot be read.
 */
export function dataSample(
  { statistic, data, rows, cols }: LayerStatistic,
  paths: readonly InputPath[],
): number | null {
  if (data.kind !== "file" || typeof paths[data.file] !== "string") return null;
  if (statistic !== "activations" && statistic !== "hessian") return null;
  const byteLength = rows * cols * DTYPE_BITS[data.dtype] / 8;
  using files = new InputFiles(paths);
  let sum = 0;
  for (let piece = 0; piece < PIECES; piece++) {
    const length = Math.min(PIECE_BYTES, byteLength);
    const bytes = new Uint8Array(length);
    const at = Math.floor((byteLength - length) * piece / (PIECES - 1));
    files.read(data.file, bytes, data.offsetBytes + at);
    sum = crc32(bytes, sum);
  }
  return sum;
}
