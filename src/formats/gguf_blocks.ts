/** Rows of GGUF blocks in a safetensors file: bytes that hold codes and scales at once. */

import { refusedFormat } from "./refused_format.ts";

/** Bytes of the blocks of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, and of the K quants from Q2 to Q6. */
const BLOCK_BYTES = [18, 20, 22, 24, 34, 84, 110, 144, 176, 210] as const;

export const ggufBlocks = refusedFormat({
  id: "gguf_blocks",
  title: "bytes like those of GGUF blocks",
  codesIn: ({ weight, parts, marker }) => {
    if (weight?.dtype !== "U8" || marker !== null || parts.size > 0) return null;
    const rowBytes = weight.shape[weight.shape.length - 1] ?? 0;
    return weight.shape.length === 2 && BLOCK_BYTES.some((size) => rowBytes % size === 0)
      ? weight
      : null;
  },
  advice: "GGUF weights are already quantized: start from the .safetensors they were made from",
});
