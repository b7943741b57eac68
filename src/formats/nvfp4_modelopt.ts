/**
 * NVFP4 as NVIDIA's ModelOpt writes it, without marker: the even column in the low half of a byte, scales row by
 * row, values `E2M1 * weight_scale * weight_scale_2` (`NVFP4QTensor.quantize` and `dequantize` in
 * `modelopt/torch/quantization/qtensor/nvfp4_tensor.py` of NVIDIA/Model-Optimizer). Stock ComfyUI reads neither.
 */

import { SMOOTHED, START_FROM_ORIGINAL } from "./advice.ts";
import { broken, type Format, unreadable } from "./format.ts";
import { isOneValue, sameShape, shown } from "./layer_shapes.ts";
import { columnsOf, NVFP4_GROUP, nvfp4Matrix } from "./nvfp4.ts";
import { reportForeignLayout } from "./problem.ts";

const TITLE = "NVFP4 of ModelOpt";

export const nvfp4Modelopt: Format = {
  id: "nvfp4_modelopt",
  title: TITLE,
  parts: ["weight_scale", "weight_scale_2", "pre_quant_scale"],
  recognise: ({ weight, parts, marker }) => {
    const scale = parts.get("weight_scale");
    if (marker !== null || weight === null || scale === undefined) return null;
    const isPacked = weight.dtype === "U8" && scale.dtype === "F8_E4M3";
    if (!isPacked || !parts.has("weight_scale_2") || weight.shape.length !== 2) return null;
    return { codes: weight, scale, shape: [weight.shape[0]!, columnsOf(weight)] };
  },
  decode: (layer, found) => {
    const { codes, shape = [] } = found, scale = found.scale!;
    const [rows = 1, cols = 1] = shape;
    const wanted = [rows, cols / NVFP4_GROUP];
    if (!sameShape(scale.shape, wanted)) {
      return broken(scale, `it is ${shown(scale)}, not F8_E4M3 [${wanted.join(", ")}]`);
    }
    const all = layer.parts.get("weight_scale_2")!;
    if (all.dtype !== "F32" || !isOneValue(all.shape)) {
      return broken(all, `it is ${shown(all)}, not F32 []`);
    }
    if (layer.parts.has("pre_quant_scale")) {
      return unreadable(codes, SMOOTHED, START_FROM_ORIGINAL);
    }
    return nvfp4Matrix(layer, found, { shape, highFirst: false });
  },
  problems: (report, _, { codes }) => reportForeignLayout(report, TITLE, codes.name),
  words: () => [TITLE, ""],
};
