/** How often each INT8 code occurs in a stored weight: what the charts of a report show. */

import { FormatError } from "../../core/errors.ts";
import { nameOfInput } from "../../remote/input_path.ts";
import { InputFiles } from "../../safetensors/input_files.ts";
import type { ModelSource } from "../../safetensors/model_source.ts";

/** Codes lie in -127..127: -128 is never written. */
const CODES = 255;
const ZERO = 127;

const CHUNK_BYTES = 1 << 20;

/**
 * Returns how many codes of tensor `name` are -127, -126, ..., 127: f64 `[255]`; null if the tensor
 * is not I8. Reads the tensor in chunks of 1 MiB.
 *
 * @throws FormatError if it holds -128; RangeError if the file ends early.
 */
export function codeHistogram(model: ModelSource, name: string): number[] | null {
  const tensor = model.tensors.find((each) => each.name === name);
  if (tensor === undefined || tensor.dtype !== "I8") return null;
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
