/**
 * FP8 that no marker names, with a scale by whatever name: `weight_scale_inv` and `scale` of Hugging Face and
 * DeepSeek, `scale_weight` of 2024, `weight.scale`, `weight_scales`, `fp8_scale`, `prism_scale`; one scale, one
 * per row, per block of 128 x 128 or per group of columns. The values are the codes times the scale.
 *
 * That the codes are multiplied stands in published readers for the names of {@link MULTIPLIERS}: DeepSeek's
 * `inference/kernel.py` and transformers' `finegrained_fp8.py` (`weight_scale_inv`, `scale`), ComfyUI
 * (`scale_weight`, `weight_scale`), compressed-tensors and vLLM (`weight_scale`). No published reader of the
 * other names was found, so their values decide: a scale above 1 would be a divisor.
 */

import type { SourceTensor } from "../core/tensor.ts";
import { START_FROM_ORIGINAL } from "./advice.ts";
import { decodeFloat8 } from "./float8.ts";
import { type Format, isRefusal, type LayerTensors, unreadable } from "./format.ts";
import { isActivationPart } from "./layer_tensors.ts";
import { elementsOf, isOneValue, scalePlace, shown } from "./layer_shapes.ts";
import { scaleReader } from "./scale_values.ts";

/** Names of scales that published readers multiply codes by. */
const MULTIPLIERS = /^(weight_scale(_inv)?|scale_weight|scale(_inv)?)$/;

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
  decode: (layer, found) => {
    const matrix = decodeFloat8(layer, found, { dtype: found.codes.dtype, bytesAre: "F8_E8M0" });
    const part = partOf(layer);
    if (isRefusal(matrix) || MULTIPLIERS.test(part) || !looksLikeDivisor(layer, found.scale!)) {
      return matrix;
    }
    const why =
      `${found.scale!.name} is above 1: codes multiplied by it would be no weights, and no ` +
      "reader of this name is known";
    return unreadable(found.codes, why, START_FROM_ORIGINAL);
  },
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

/**
 * Whether a scale is what codes were multiplied by: 448 over the largest value, far above 1, instead of the
 * largest value over 448, far below 1.
 */
function looksLikeDivisor({ bytesOf }: LayerTensors, scale: SourceTensor): boolean {
  const { dtype } = scalePlace(scale, { bytesAre: "F8_E8M0" })!;
  const count = elementsOf(scale.shape), valueAt = scaleReader(dtype, bytesOf(scale));
  let above = 0;
  for (let i = 0; i < count; i++) if (valueAt(i) > 1) above++;
  return 2 * above > count;
}

function partOf({ parts }: LayerTensors): string {
  return [...parts.keys()].find((part) => !isActivationPart(part)) ?? "a scale";
}
