/** The rules of the stock ComfyUI loader for `int8_tensorwise` layers: shapes, scales, rotation. */

import type { SourceTensor } from "../core/tensor.ts";
import type { QuantizedLayer } from "./quant_layers.ts";
import { RAW_CODES, type Report } from "./problem.ts";
import { partName } from "./stored_matrix.ts";

const FIRST_FORWARD = "loads, ValueError at the first forward";

/** The tensors around a layer. */
interface Int8Context {
  readonly weight: SourceTensor;
  readonly byName: ReadonlyMap<string, SourceTensor>;
}

/** Tensors beside an INT8 weight that say its codes are of other values than the layer's weight. */
export const IGNORED_TRANSFORMS: readonly {
  readonly rule: string;
  readonly parts: readonly string[];
  readonly means: string;
}[] = [
  {
    rule: "smooth-factors",
    parts: ["smooth_factors"],
    means: "its columns are multiplied by smooth_factors, which are ignored",
  },
  {
    rule: "pre-quant-scale",
    parts: ["pre_quant_scale"],
    means: "its inputs need pre_quant_scale, which is ignored for INT8",
  },
  {
    rule: "hadamard-quip",
    parts: ["hadamard_quip", "sign_row", "sign_col", "hadamard_size_in", "hadamard_size_out"],
    means: "its codes are in the space of a Hadamard transform, which is ignored",
  },
];

/** Reports what the loader makes of an `int8_tensorwise` layer other than what it says. */
export function checkInt8(
  report: Report,
  layer: QuantizedLayer,
  { weight, byName }: Int8Context,
): void {
  const { name, shape } = weight;
  if (shape.length !== 2 && shape.length !== 3) {
    report(
      "weight-rank",
      RAW_CODES,
      `${name} is I8 [${shape.join(", ")}]; only [N, K] linears, ` +
        "[E, N, K] expert banks and [V, D] embeddings have a quantized path",
    );
  }
  checkInt8Scale(report, layer, { weight, byName });
  checkConvrot(report, layer, weight);
  for (const { rule, parts, means } of IGNORED_TRANSFORMS) {
    const there = parts.filter((part) => byName.has(partName(layer.layer, part)));
    if (there.length > 0) report(rule, "loads, ignores it, computes garbage", means);
  }
}

function checkInt8Scale(
  report: Report,
  layer: QuantizedLayer,
  { weight, byName }: Int8Context,
): void {
  const scale = byName.get(partName(layer.layer, "weight_scale"));
  if (scale === undefined) {
    const old = layer.scaleName === null ? "" : `; ${layer.scaleName} is not looked for`;
    const effect = "fails at load or at the first forward: no scale";
    report("scale-missing", effect, `it has no weight_scale${old}`);
    return;
  }
  if (scale.dtype !== "F32") {
    const effect = "fails at the first forward or computes with another precision";
    report("scale-dtype", effect, `${scale.name} is ${scale.dtype}, must be F32`);
  }
  const leading = weight.shape.slice(0, -1);
  const cols = weight.shape[weight.shape.length - 1] ?? 1;
  if (isOneValue(scale.shape) || sameShape(scale.shape, [...leading, 1])) return;
  const wanted = `must be [${[...leading, 1].join(", ")}] or []`;
  const shown = `${scale.name} is [${scale.shape.join(", ")}]`;
  if (weight.shape.length === 2 && sameShape(scale.shape, leading)) {
    report(
      "scale-1d",
      leading[0] === cols
        ? "loads; silently wrong wherever the weight is dequantized (LoRA, full precision)"
        : "loads; fails wherever the weight is dequantized (LoRA, full precision)",
      `${shown}, ${wanted}`,
    );
  } else if (weight.shape.length === 2 && sameShape(scale.shape, [1, ...leading])) {
    report("scale-shape", "loads, fails or computes garbage", `${shown}, transposed: ${wanted}`);
  } else {
    const tiles = scale.shape.length >= 2 ? ", scales of blocks" : "";
    report("scale-shape", "loads, fails or computes garbage", `${shown}${tiles}: ${wanted}`);
  }
}

function checkConvrot(report: Report, layer: QuantizedLayer, weight: SourceTensor): void {
  const marker = layer.marker!;
  if (marker["convrot"] !== true) return;
  if (layer.convrotGroupSize === null) {
    const group = JSON.stringify(marker["convrot_groupsize"]);
    report("convrot-group-size", FIRST_FORWARD, `convrot_groupsize is ${group}, no power of 4`);
    return;
  }
  const cols = weight.shape[weight.shape.length - 1] ?? 1;
  if (cols % layer.convrotGroupSize !== 0) {
    const detail = `the group ${layer.convrotGroupSize} does not divide its ${cols} columns`;
    report("convrot-group-divides", FIRST_FORWARD, detail);
  }
  const { scaleShape } = layer;
  // One row has one scale: [1, 1] is per row there, [] is not.
  const perRow = scaleShape !== null && sameShape(scaleShape, [...weight.shape.slice(0, -1), 1]);
  if (scaleShape !== null && isOneValue(scaleShape) && !perRow) {
    report("convrot-scalar-scale", FIRST_FORWARD, "a rotated weight needs one scale per row");
  }
}

/** Whether a tensor of this shape holds one value. */
export function isOneValue(shape: readonly number[]): boolean {
  return shape.every((size) => size === 1);
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}
