/** `int8_axiswise`: INT8 with a scale per row, as convert_to_quant's own loader reads it. */

import type { Format } from "./format.ts";
import { decodeInt8, INT8_PARTS, markedInt8 } from "./int8_layer.ts";
import { reportForeignMarker } from "./problem.ts";

export const int8Axiswise: Format = {
  id: "int8_axiswise",
  title: "INT8 by rows of convert_to_quant",
  parts: INT8_PARTS,
  recognise: (layer) => markedInt8(layer, "int8_axiswise"),
  decode: (layer, found) => decodeInt8(layer, found, { tiles: false }),
  problems: (report) =>
    reportForeignMarker(
      report,
      "int8_axiswise",
      "convert_to_quant's own loader and its forks read it",
    ),
  write: {
    target: "ctq",
    rotates: false,
    scalings: ["row"],
    holds: ({ scaling, isRotated, target }) =>
      scaling.kind === "row" && !isRotated && target === "ctq",
    scaleShape: (_, { rows }) => [rows],
  },
  recipe: () => ({ format: "int8_axiswise", convrotGroupSize: null, scaling: "row" }),
};
