/** `float8_e4m3fn` and `float8_e5m2`: floats of one byte with one scale, as stock ComfyUI loads them. */

import { floatRecipe } from "./outputs.ts";
import type { DType } from "../core/dtype.ts";
import {
  broken,
  type Format,
  type GridWriter,
  type LayerTensors,
  type Recognised,
  type Refusal,
} from "./format.ts";
import { codesShape, isOneValue, scalePlace, shown } from "./layer_shapes.ts";
import type { MatrixSource, ScaleDType } from "./matrix_source.ts";
import { reportForeignMarker } from "./problem.ts";
import { blockGroup, plainGroup } from "./scale_groups.ts";

const PARTS = ["weight_scale", "scale_weight"] as const;

const FP8_WRITER: GridWriter = {
  outputs: ["fp8"],
  rotates: false,
  levels: () => ({ kind: "e4m3" }),
  layout: (_, { rows, cols }) => ({
    codes: { dtype: "F8_E4M3", shape: [rows, cols] },
    beside: [{ part: "weight_scale", dtype: "F32", shape: [], content: "scales" }],
    marker: {},
  }),
};

export const float8E4m3: Format = float8("float8_e4m3fn", {
  dtype: "F8_E4M3",
  stockSince: "0.4.0",
});
export const float8E5m2: Format = float8("float8_e5m2", { dtype: "F8_E5M2", stockSince: "0.8.0" });

/** Markers of forks, for scales that stock ComfyUI does not take. */
export const float8Rowwise: Format = forked("float8_e4m3fn_rowwise");
export const float8Blockwise: Format = forked("float8_e4m3fn_blockwise");

function float8(
  id: string,
  { dtype, stockSince }: { readonly dtype: "F8_E4M3" | "F8_E5M2"; readonly stockSince: string },
): Format {
  return {
    id,
    title: `FP8 (${id})`,
    stockSince,
    runsOn: "NVIDIA from Ada (SM 8.9)",
    parts: PARTS,
    recognise: (layer) => marked(layer, id),
    decode: (layer, found) => decodeFloat8(layer, found, { dtype }),
    problems: (report, layer, { codes, scale }) => {
      if (codes.dtype !== dtype) {
        report(
          "weight-dtype",
          "loads, computes garbage",
          `${codes.name} is ${codes.dtype}, ${id} needs ${dtype}`,
        );
      }
      const own = layer.parts.get("weight_scale");
      if (own === undefined) {
        const old = scale === undefined ? "" : `; ${scale.name} is not looked for`;
        const effect = "fails at load or at the first forward: no scale";
        report("scale-missing", effect, `it has no weight_scale${old}`);
      } else if (!isOneValue(own.shape) && !isOnePerExpert(own.shape, codes.shape)) {
        report(
          "scale-shape",
          "loads; the matmul takes one scale for the whole weight: fails at the first forward or computes garbage",
          `${own.name} is ${shown(own)}, must be F32 []`,
        );
      } else if (own.dtype !== "F32") {
        report(
          "scale-dtype",
          "loads; not every matmul path takes such a scale",
          `${own.name} is ${shown(own)}, stock files have F32 []`,
          { severity: "warning" },
        );
      }
    },
    ...(dtype === "F8_E4M3" ? { writeGrid: FP8_WRITER, recipe: () => floatRecipe(id, "fp8") } : {}),
    states: (matrix) => {
      const { scale, transform, smoothFactors, packed, rows, cols, convrotGroupSize } = matrix;
      const isPlain = transform === undefined && smoothFactors === undefined &&
        packed === undefined && convrotGroupSize === null;
      if (matrix.dtype !== dtype || scale === null || !isPlain) return null;
      return scale.groupRows >= rows && scale.groupCols >= cols ? { format: id } : null;
    },
  };
}

/** Banks of experts `[E, N, K]` are taken apart with their scales. */
function isOnePerExpert(scale: readonly number[], weight: readonly number[]): boolean {
  return weight.length === 3 && scale[0] === weight[0] && isOneValue(scale.slice(1));
}

function forked(id: string): Format {
  return {
    id,
    title: `FP8 of forks (${id})`,
    parts: PARTS,
    recognise: (layer) => marked(layer, id),
    decode: (layer, found) => decodeFloat8(layer, found, { dtype: "F8_E4M3" }),
    problems: (report) => reportForeignMarker(report, id),
  };
}

function marked({ format, weight, parts }: LayerTensors, id: string): Recognised | null {
  if (format !== id || weight === null) return null;
  return { codes: weight, scale: parts.get("weight_scale") ?? parts.get("scale_weight") };
}

/** Returns how FP8 codes with any scale are decoded. */
export function decodeFloat8(
  layer: LayerTensors,
  { codes, scale }: Recognised,
  { dtype, bytesAre }: { dtype: DType; bytesAre?: ScaleDType },
): MatrixSource | Refusal {
  const { name, file, offsetBytes } = codes;
  const said = layer.format ?? "FP8";
  if (codes.dtype !== dtype || (dtype !== "F8_E4M3" && dtype !== "F8_E5M2")) {
    return broken(codes, `it is ${codes.dtype}, its marker says ${said}, which is ${dtype}`);
  }
  if (scale === undefined) return broken(codes, `it is ${codes.dtype} and has no weight_scale`);
  const place = scalePlace(scale, bytesAre === undefined ? {} : { bytesAre });
  if (place === null) return broken(scale, `${scale.dtype} scales cannot be read`);
  const { rows, cols } = codesShape(codes.shape);
  const groupSize = layer.marker?.["group_size"] ?? layer.marker?.["block_size"];
  const weight = { rows, cols, leading: codes.shape.slice(0, -1), groupSize };
  const covered = plainGroup(scale.shape, weight) ?? blockGroup(scale.shape, weight);
  if (covered === null) {
    return broken(
      scale,
      `scales of shape [${scale.shape.join(", ")}] do not fit the ${said} weight [${
        codes.shape.join(", ")
      }]`,
    );
  }
  return {
    name,
    file,
    offsetBytes,
    dtype,
    rows,
    cols,
    scale: { ...place, ...covered },
    convrotGroupSize: null,
  };
}
