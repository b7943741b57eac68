/**
 * torchao, whose safetensors files hold the parts of a tensor subclass beside one another: `_weight_qdata` and
 * `_weight_scale`, before that `weight:qdata` and `weight:scale`. `Float8Tensor` and `Int8Tensor` without zero
 * point are codes times a float scale, of the whole weight or of each row
 * (`torchao/quantization/quantize_/workflows`); its packed and MX tensors are refused.
 */

import { isFloatDType } from "../core/dtype.ts";
import type { SourceTensor } from "../core/tensor.ts";
import { START_FROM_ORIGINAL } from "./advice.ts";
import { decodeFloat8 } from "./float8.ts";
import { type Format, type LayerTensors, unreadable } from "./format.ts";
import { decodeInt8 } from "./int8_layer.ts";
import { codesShape, elementsOf } from "./layer_shapes.ts";
import { reportForeignLayout } from "./problem.ts";

const TITLE = "torchao";

export const torchao: Format = {
  id: "torchao",
  title: TITLE,
  recognise: (layer) => {
    const codes = partOf(layer, "qdata");
    if (codes === undefined || layer.weight !== null || layer.marker !== null) return null;
    return { codes, scale: partOf(layer, "scale"), name: `${layer.layer}.weight` };
  },
  decode: (layer, found) => {
    const { codes, scale } = found;
    const isPlain = layer.parts.size === 2 && scale !== undefined && isFloatDType(scale.dtype) &&
      isPerRow(scale, codes);
    if (isPlain && isFloatDType(codes.dtype)) {
      return decodeFloat8(layer, found, { dtype: codes.dtype });
    }
    if (isPlain && codes.dtype === "I8") return decodeInt8(layer, found, { tiles: false });
    const why =
      "of torchao, only FP8 and INT8 with one float scale per row or in all are decoded here";
    return unreadable(codes, why, START_FROM_ORIGINAL);
  },
  problems: (report, _, { codes }) => reportForeignLayout(report, TITLE, codes.name),
  words: () => [TITLE, ""],
};

function partOf({ parts }: LayerTensors, part: string): SourceTensor | undefined {
  return parts.get(`_weight_${part}`) ?? parts.get(`weight:${part}`) ??
    (part === "qdata" ? parts.get("weight_qdata") : parts.get("weight_scale"));
}

function isPerRow(scale: SourceTensor, { shape }: SourceTensor): boolean {
  const count = elementsOf(scale.shape);
  return count === 1 || count === codesShape(shape).rows;
}
