/** INT8 codes that no marker names: with `scale_weight` (the layout of 2024) or `weight_scale`. */

import type { Format } from "./format.ts";
import { decodeInt8, INT8_PARTS, isTransformed, recogniseInt8 } from "./int8_layer.ts";
import { int8Tensorwise } from "./int8_tensorwise.ts";
import { RAW_CODES } from "./problem.ts";

export const int8Unmarked: Format = {
  id: "int8_unmarked",
  title: "INT8 without marker",
  parts: INT8_PARTS,
  recognise: (layer) => {
    const { weight, parts, marker } = layer;
    if (marker !== null || weight?.dtype !== "I8" || isTransformed(layer)) return null;
    const scales = [...parts.keys()].filter((part) =>
      part === "weight_scale" || part === "scale_weight"
    );
    const isAlone = [...parts.keys()].every((part) =>
      INT8_PARTS.includes(part) || /input/.test(part)
    );
    return scales.length === 1 && isAlone ? recogniseInt8(layer, weight) : null;
  },
  decode: (layer, found) => decodeInt8(layer, found, { tiles: true }),
  problems: (report, _, { codes, scale }) =>
    report(
      "unmarked-int8-weight",
      RAW_CODES,
      `${codes.name} has ${scale?.name} and no comfy_quant`,
      {
        hint: "loaders of the old scale_weight layout may read it",
      },
    ),
  recipe: int8Tensorwise.recipe!,
  words: (
    { parts },
  ) => ["I8", ` with ${parts.has("weight_scale") ? "weight_scale" : "scale_weight"}`],
};
