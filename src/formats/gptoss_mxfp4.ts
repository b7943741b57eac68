/**
 * MXFP4 of gpt-oss: `P_blocks` U8 `[E, N, K / 32, 16]`, the even column in the low half of a byte, and the
 * exponents `P_scales` U8 `[E, N, K / 32]`. Restored as `P.weight` `[E, N, K]`, the name and layout of ComfyUI.
 */

import { packedMatrix } from "./matrix_source.ts";
import { broken, type Format } from "./format.ts";
import { elementsOf, sameShape, shown } from "./layer_shapes.ts";
import { E2M1_LEVELS } from "./packed_codes.ts";
import { reportForeignLayout } from "./problem.ts";

const TITLE = "MXFP4 of gpt-oss";
const BLOCK = 32;

export const gptossMxfp4: Format = {
  id: "gptoss_mxfp4",
  title: TITLE,
  parts: ["blocks", "scales"],
  recognise: ({ layer, weight, parts, marker }) => {
    const blocks = parts.get("blocks");
    if (marker !== null || weight !== null || blocks === undefined) return null;
    const { dtype, shape } = blocks;
    if (dtype !== "U8" || shape.length < 3 || shape[shape.length - 1] !== BLOCK / 2) return null;
    const leading = shape.slice(0, -2), cols = BLOCK * shape[shape.length - 2]!;
    return {
      codes: blocks,
      scale: parts.get("scales"),
      name: `${layer}.weight`,
      shape: [...leading, cols],
    };
  },
  decode: (_, { codes, scale, shape = [] }) => {
    if (scale === undefined) return broken(codes, "its scales are missing");
    const wanted = codes.shape.slice(0, -1);
    if ((scale.dtype !== "U8" && scale.dtype !== "F8_E8M0") || !sameShape(scale.shape, wanted)) {
      return broken(scale, `it is ${shown(scale)}, not U8 [${wanted.join(", ")}]`);
    }
    const cols = shape[shape.length - 1]!;
    return packedMatrix(codes, {
      rows: elementsOf(shape.slice(0, -1)),
      cols,
      convrotGroupSize: null,
    }, {
      rowBytes: cols / 2,
      fields: [{ firstByte: 0, bits: 4, highFirst: false }],
      levels: E2M1_LEVELS,
      levelCount: 16,
      scales: [{
        file: scale.file,
        offsetBytes: scale.offsetBytes,
        dtype: "F8_E8M0",
        groupRows: 1,
        groupCols: BLOCK,
      }],
    });
  },
  problems: (report, _, { codes }) => reportForeignLayout(report, TITLE, codes.name),
  words: () => [TITLE, ""],
};
