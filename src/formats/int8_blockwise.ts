/** `int8_blockwise`: INT8 with a scale per square tile or per group of columns, of convert_to_quant. */

import type { Format } from "./format.ts";
import { decodeInt8, INT8_PARTS, markedInt8 } from "./int8_layer.ts";
import { reportForeignMarker } from "./problem.ts";

export const int8Blockwise: Format = {
  id: "int8_blockwise",
  title: "INT8 by blocks of convert_to_quant",
  parts: INT8_PARTS,
  recognise: (layer) => markedInt8(layer, "int8_blockwise"),
  decode: (layer, found) => decodeInt8(layer, found, { tiles: true }),
  problems: (report) =>
    reportForeignMarker(
      report,
      "int8_blockwise",
      "convert_to_quant's own loader and its forks read it",
    ),
  write: {
    target: null,
    rotates: false,
    scalings: ["block"],
    holds: ({ scaling: { kind } }) => kind === "block" || kind === "group",
    scaleShape: (scaling, { rows, cols }) =>
      scaling.kind === "block"
        ? [rows / scaling.blockSize, cols / scaling.blockSize]
        : [rows, cols / (scaling.kind === "group" ? scaling.groupCols : cols), 1],
  },
  recipe: ({ marker }) => {
    const size = marker?.["group_size"];
    return {
      format: "int8_blockwise",
      convrotGroupSize: null,
      scaling: "block",
      ...(typeof size === "number" ? { blockSize: size } : {}),
    };
  },
};
