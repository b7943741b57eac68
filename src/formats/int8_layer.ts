/**
 * The common parts of the INT8 formats: codes `[..., N, K]` with scales, rotated or not, with smoothing
 * divided in.
 */

import type { SourceTensor } from "../core/tensor.ts";
import { SMOOTHED, START_FROM_ORIGINAL } from "./advice.ts";
import { broken, type LayerTensors, type Recognised, type Refusal, unreadable } from "./format.ts";
import { codesShape, sameShape, scalePlace, shown } from "./layer_shapes.ts";
import type { MatrixSource } from "./matrix_source.ts";
import { plainGroup, tileGroup } from "./scale_groups.ts";

/** F32 `[K]` beside a weight: what its columns were multiplied by, to be divided out of its inputs. */
export const SMOOTH_FACTORS = "smooth_factors";

/** The companions of codes that are stored transformed. */
export const TRANSFORM_PARTS: readonly string[] = Object.freeze([
  "hadamard_quip",
  "hadamard_size_out",
  "hadamard_size_in",
  "sign_row",
  "sign_col",
]);

/** The companions that INT8 layers may have. */
export const INT8_PARTS: readonly string[] = Object.freeze([
  "weight_scale",
  "scale_weight",
  "pre_quant_scale",
  SMOOTH_FACTORS,
]);

/** Recognises a layer by the format of its marker. */
export function markedInt8(layer: LayerTensors, format: string): Recognised | null {
  if (layer.format !== format || layer.weight === null || isTransformed(layer)) return null;
  return recogniseInt8(layer, layer.weight);
}

/** An INT8 layer with the scales that it has. */
export function recogniseInt8(layer: LayerTensors, codes: SourceTensor): Recognised {
  return {
    codes,
    scale: layer.parts.get("weight_scale") ?? layer.parts.get("scale_weight"),
    convrotGroupSize: layer.convrotGroupSize,
  };
}

/** Whether codes are those of a Hadamard transform of the weight. */
export function isTransformed({ parts }: LayerTensors): boolean {
  return TRANSFORM_PARTS.some((part) => parts.has(part));
}

/** Returns how INT8 codes are decoded; `tiles`: their scales may be those of blocks. */
export function decodeInt8(
  layer: LayerTensors,
  { codes, scale, convrotGroupSize: group = null }: Recognised,
  { tiles }: { tiles: boolean },
): MatrixSource | Refusal {
  const { name, file, offsetBytes, dtype, shape } = codes;
  const said = layer.format ?? "INT8";
  if (dtype !== "I8") {
    return broken(codes, `it is ${dtype}, its marker says ${said}, which is I8`);
  }
  if (shape.length < 2) {
    return broken(codes, `it has the shape [${shape.join(", ")}], not rows and columns`);
  }
  const preScale = layer.parts.get("pre_quant_scale");
  if (preScale !== undefined) {
    return unreadable(codes, SMOOTHED, START_FROM_ORIGINAL);
  }
  if (scale === undefined) return broken(codes, "it is I8 and has no weight_scale");
  const place = scalePlace(scale);
  if (place === null) return broken(scale, `${scale.dtype} scales cannot be read`);
  const { rows, cols } = codesShape(shape);
  const weight = {
    rows,
    cols,
    leading: shape.slice(0, -1),
    groupSize: layer.marker?.["group_size"],
  };
  const covered = plainGroup(scale.shape, weight) ??
    (tiles ? tileGroup(scale.shape, weight) : null);
  if (covered === null) {
    return broken(
      scale,
      `scales of shape [${scale.shape.join(", ")}] do not fit the ${said} weight [${
        shape.join(", ")
      }]`,
    );
  }
  if (group !== null && cols % group !== 0) {
    return broken(codes, `its rotation group ${group} does not divide its ${cols} columns`);
  }
  const smooth = layer.parts.get(SMOOTH_FACTORS);
  if (smooth !== undefined && (smooth.dtype !== "F32" || !sameShape(smooth.shape, [cols]))) {
    return broken(smooth, `it is ${shown(smooth)}, not F32 [${cols}]`);
  }
  return {
    name,
    file,
    offsetBytes,
    dtype,
    rows,
    cols,
    scale: { ...place, ...covered },
    convrotGroupSize: group,
    ...(smooth === undefined
      ? {}
      : { smoothFactors: { file: smooth.file, offsetBytes: smooth.offsetBytes } }),
  };
}
