/** How often each INT8 code occurs in a stored weight: what the charts of a report show. */

import { closeSync, openSync, readSync } from "node:fs";
import { FormatError } from "../../core/errors.ts";
import type { ModelSource } from "../../safetensors/model_source.ts";

/** Codes lie in -127..127: -128 is never written. */
const CODES = 255;
const ZERO = 127;

const CHUNK_BYTES = 1 << 20;

/**
 * Returns how many codes of tensor `name` are -127, -126, ..., 127: f64 `[255]`; null where the tensor
 * is not I8. Reads the tensor in chunks of 1 MiB.
 *
 * @throws FormatError where the file ends early or holds -128.
 */
export function codeHistogram(model: ModelSource, name: string): number[] | null {
  const tensor = model.tensors.find((each) => each.name === name);
  if (tensor === undefined || tensor.dtype !== "I8") return null;
  const path = model.paths[tensor.file]!;
  const counts = new Array<number>(CODES).fill(0);
  const chunk = new Int8Array(Math.min(CHUNK_BYTES, tensor.byteLength));
  const fd = openSync(path, "r");
  try {
    for (let done = 0; done < tensor.byteLength;) {
      const wanted = Math.min(chunk.length, tensor.byteLength - done);
      const got = readSync(fd, chunk, 0, wanted, tensor.offsetBytes + done);
      if (got === 0) {
        throw new FormatError("the file ends inside the tensor", { path, tensor: name });
      }
      for (let i = 0; i < got; i++) {
        const at = chunk[i]! + ZERO;
        if (at < 0) throw new FormatError("it holds the code -128", { path, tensor: name });
        counts[at]!++;
      }
      done += got;
    }
  } finally {
    closeSync(fd);
  }
  return counts;
}
