/** `int8_tensorwise`: the one INT8 format of stock ComfyUI, with a scale per row or one, rotated or not. */

import type { Format, LayerTensors, Recognised } from "./format.ts";
import {
  decodeInt8,
  INT8_PARTS,
  markedInt8,
  SMOOTH_FACTORS,
  TRANSFORM_PARTS,
} from "./int8_layer.ts";
import { elementsOf, isOneValue, sameShape } from "./layer_shapes.ts";
import { RAW_CODES, type Report } from "./problem.ts";
import type { SourceTensor } from "../core/tensor.ts";

const FIRST_FORWARD = "loads, ValueError at the first forward";

/** Tensors beside an INT8 weight that say its codes are of other values than the layer's weight. */
const IGNORED_TRANSFORMS: readonly {
  readonly rule: string;
  readonly parts: readonly string[];
  readonly means: string;
}[] = [
  {
    rule: "smooth-factors",
    parts: [SMOOTH_FACTORS],
    means: "its columns are multiplied by smooth_factors, which are ignored",
  },
  {
    rule: "pre-quant-scale",
    parts: ["pre_quant_scale"],
    means: "its inputs need pre_quant_scale, which is ignored for INT8",
  },
  {
    rule: "hadamard-quip",
    parts: TRANSFORM_PARTS,
    means: "its codes are in the space of a Hadamard transform, which is ignored",
  },
];

export const int8Tensorwise: Format = {
  id: "int8_tensorwise",
  title: "INT8 of stock ComfyUI",
  stockSince: "0.27.0",
  runsOn:
    "NVIDIA from Turing (SM 7.5) and AMD from RDNA2; elsewhere weights are restored to compute",
  parts: INT8_PARTS,
  recognise: (layer) => markedInt8(layer, "int8_tensorwise"),
  decode: (layer, found) => decodeInt8(layer, found, { tiles: false }),
  problems: tensorwiseProblems,
  recipe: (layer, { scale, convrotGroupSize = null }) => ({
    format: layer.format ?? "int8_tensorwise",
    convrotGroupSize,
    scaling: elementsOf(scale?.shape ?? []) > 1 ? "row" : "tensor",
  }),
  write: {
    target: "comfyui",
    rotates: true,
    scalings: ["tensor", "row"],
    holds: ({ scaling: { kind }, isRotated, target }) =>
      kind === "tensor" || (kind === "row" && (isRotated || target === "comfyui")),
    scaleShape: ({ kind }, { rows, normalizeScales }) =>
      kind === "row" ? [rows, 1] : normalizeScales ? [] : [1],
  },
  states: (matrix) => {
    const { dtype, scale, transform, smoothFactors, packed, cols, convrotGroupSize } = matrix;
    const isPlain = transform === undefined && smoothFactors === undefined && packed === undefined;
    if (dtype !== "I8" || scale === null || !isPlain || scale.groupCols < cols) return null;
    return {
      format: "int8_tensorwise",
      ...(convrotGroupSize === null ? {} : { convrot: true, convrot_groupsize: convrotGroupSize }),
    };
  },
};

/** Reports what the loader makes of a layer of this format other than what it says. */
export function tensorwiseProblems(
  report: Report,
  layer: LayerTensors,
  { codes }: Recognised,
): void {
  const { name, dtype, shape } = codes;
  if (dtype !== "I8") {
    report(
      "weight-dtype",
      "loads, computes garbage",
      `${name} is ${dtype}, int8_tensorwise needs I8`,
    );
  }
  if (shape.length !== 2 && shape.length !== 3) {
    report(
      "weight-rank",
      RAW_CODES,
      `${name} is I8 [${shape.join(", ")}]; only [N, K] linears, ` +
        "[E, N, K] expert banks and [V, D] embeddings have a quantized path",
    );
  }
  scaleProblems(report, layer, codes);
  rotationProblems(report, layer, codes);
  for (const { rule, parts, means } of IGNORED_TRANSFORMS) {
    const isThere = parts.some((part) => layer.parts.has(part));
    if (isThere) report(rule, "loads, ignores it, computes garbage", means);
  }
}

function scaleProblems(report: Report, layer: LayerTensors, weight: SourceTensor): void {
  const scale = layer.parts.get("weight_scale");
  if (scale === undefined) {
    const old = layer.parts.get("scale_weight");
    const said = old === undefined ? "" : `; ${old.name} is not looked for`;
    const effect = "fails at load or at the first forward: no scale";
    report("scale-missing", effect, `it has no weight_scale${said}`);
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
  const seen = `${scale.name} is [${scale.shape.join(", ")}]`;
  if (weight.shape.length === 2 && sameShape(scale.shape, leading)) {
    report(
      "scale-1d",
      leading[0] === cols
        ? "loads; silently wrong wherever the weight is dequantized (LoRA, full precision)"
        : "loads; fails wherever the weight is dequantized (LoRA, full precision)",
      `${seen}, ${wanted}`,
    );
  } else if (weight.shape.length === 2 && sameShape(scale.shape, [1, ...leading])) {
    report("scale-shape", "loads, fails or computes garbage", `${seen}, transposed: ${wanted}`);
  } else {
    const tiles = scale.shape.length >= 2 ? ", scales of blocks" : "";
    report("scale-shape", "loads, fails or computes garbage", `${seen}${tiles}: ${wanted}`);
  }
}

function rotationProblems(report: Report, layer: LayerTensors, weight: SourceTensor): void {
  const marker = layer.marker;
  if (marker === null || marker["convrot"] !== true) return;
  const group = layer.convrotGroupSize;
  if (group === null) {
    const asked = JSON.stringify(marker["convrot_groupsize"]);
    report("convrot-group-size", FIRST_FORWARD, `convrot_groupsize is ${asked}, no power of 4`);
    return;
  }
  const cols = weight.shape[weight.shape.length - 1] ?? 1;
  if (cols % group !== 0) {
    report(
      "convrot-group-divides",
      FIRST_FORWARD,
      `the group ${group} does not divide its ${cols} columns`,
    );
  }
  const shape = layer.parts.get("weight_scale")?.shape ?? null;
  // One row has one scale: [1, 1] is per row there, [] is not.
  const perRow = shape !== null && sameShape(shape, [...weight.shape.slice(0, -1), 1]);
  if (shape !== null && isOneValue(shape) && !perRow) {
    report("convrot-scalar-scale", FIRST_FORWARD, "a rotated weight needs one scale per row");
  }
}
