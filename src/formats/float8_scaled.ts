/**
 * FP8 that no marker names, with a scale by whatever name: `weight_scale_inv` and `scale` of Hugging Face and
 * DeepSeek, `scale_weight` of 2024, `weight.scale`, `weight_scales`, `fp8_scale`, `prism_scale`; one scale, one
 * per row, per block of 128 x 128 or per group of columns. The values are the codes times the scale.
 */

import type { SourceTensor } from "../core/tensor.ts";
import { decodeFloat8 } from "./float8.ts";
import type { Format, LayerTensors } from "./format.ts";
import { isActivationPart } from "./layer_tensors.ts";
import { isOneValue, shown } from "./layer_shapes.ts";

/** The layout that a tensor `scaled_fp8` announces. */
const OLD_SCALE = "scale_weight";

export const float8Scaled: Format = {
  id: "float8_scaled",
  title: "FP8 without marker",
  recognise: (layer) => {
    const { weight, marker } = layer;
    if (marker !== null || weight === null || !/^F8_E[45]M/.test(weight.dtype)) return null;
    const scale = onlyScale(layer);
    return scale === null ? null : { codes: weight, scale };
  },
  // Bytes beside FP8 are exponents, as in the MX formats.
  decode: (layer, found) =>
    decodeFloat8(layer, found, { dtype: found.codes.dtype, bytesAre: "F8_E8M0" }),
  problems: (report, layer, { codes, scale }, { hasScaledFp8 }) => {
    const isOld = layer.parts.has(OLD_SCALE);
    if (isOld && hasScaledFp8 && isOneValue(scale!.shape)) return;
    if (isOld && hasScaledFp8) {
      report(
        "scale-shape",
        "loads; the matmul takes one scale for the whole weight: fails at the first forward or computes garbage",
        `${scale!.name} is ${shown(scale!)}, must be F32 []`,
      );
      return;
    }
    report(
      "unmarked-fp8-weight",
      "not recognised as quantized: loads the weight without its scale, computes garbage",
      isOld
        ? `it has ${scale!.name}, and the file has no tensor scaled_fp8`
        : `${codes.name} has ${scale!.name} and no comfy_quant`,
    );
  },
  words: (layer, { codes }) => [codes.dtype, ` with ${partOf(layer)}`],
};

/** The one companion that scales the weight; null if there is none, or something else beside it. */
function onlyScale(layer: LayerTensors): SourceTensor | null {
  const others = [...layer.parts].filter(([part]) => !isActivationPart(part));
  const [scale] = others;
  return others.length === 1 && scale !== undefined && /scale/i.test(scale[0]) ? scale[1] : null;
}

function partOf({ parts }: LayerTensors): string {
  return [...parts.keys()].find((part) => !isActivationPart(part)) ?? "a scale";
}
