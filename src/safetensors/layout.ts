/** Places of the tensors of a new file: decided from names, dtypes and shapes alone. */

import { alignmentOf } from "../core/dtype.ts";
import { byteLength } from "../core/shape.ts";
import type { TensorInfo } from "../core/tensor.ts";
import { encodeHeader } from "./header.ts";

/** A tensor and its place in the file to be written. */
export interface PlacedTensor extends TensorInfo {
  /** Absolute offset of its first byte, a multiple of its element size. */
  readonly offsetBytes: number;
  /** Its size in bytes. */
  readonly byteLength: number;
}

/** A whole file before any of its data is known. */
export interface Layout {
  /** The first bytes of the file: length and JSON, padded to a multiple of 8. */
  readonly header: Uint8Array;
  /** All tensors in file order; the first begins where `header` ends, each where the one before ends. */
  readonly entries: readonly PlacedTensor[];
  /** Size of the whole file. */
  readonly totalBytes: number;
}

/**
 * Lays tensors out without holes: those with the largest elements first, otherwise in the order given,
 * so that each lies aligned for its dtype and readers can view it in place.
 *
 * @param metadata the `__metadata__` map; null for none.
 * @throws RangeError if a name is taken twice or reserved, or a size overflows.
 *
 * @example
 * ```ts
 * import { layoutTensors } from "./layout.ts";
 * const { entries } = layoutTensors([
 *   { name: "codes", dtype: "I8", shape: [3, 5] },
 *   { name: "scale", dtype: "F32", shape: [3, 1] },
 * ], null);
 * if (entries[0]?.name !== "scale") throw new Error("unreachable");
 * ```
 */
export function layoutTensors(
  tensors: readonly TensorInfo[],
  metadata: Readonly<Record<string, string>> | null,
): Layout {
  // Array.prototype.sort is stable: equal alignments stay in the order given.
  const ordered = [...tensors].sort((a, b) => alignmentOf(b.dtype) - alignmentOf(a.dtype));
  let end = 0;
  const relative = ordered.map(({ name, dtype, shape }) => {
    const length = byteLength(dtype, shape);
    const begin = end;
    end += length ?? NaN;
    if (length === undefined || !Number.isSafeInteger(end)) {
      throw new RangeError(
        `Cannot lay out tensor ${JSON.stringify(name)}: ` +
          `shape [${shape.join(", ")}] as ${dtype} does not fit into a file`,
      );
    }
    return { name, dtype, shape, begin, end };
  });
  const header = encodeHeader(relative, metadata);
  return {
    header,
    entries: relative.map(({ name, dtype, shape, begin, end }) => ({
      name,
      dtype,
      shape,
      offsetBytes: header.length + begin,
      byteLength: end - begin,
    })),
    totalBytes: header.length + end,
  };
}
