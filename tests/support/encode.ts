/** A tiny encoder of quantized layers for tests: obviously right, on the reference kernels alone. */

import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { tensorOf } from "./model_files.ts";

/** Returns `count` values from a fixed generator, in -1 to 1. */
export function randomValues(count: number, seed = 1): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

/** A matrix as codes and scales. */
export interface Encoded {
  readonly codes: Int8Array;
  readonly scales: Float32Array;
  /** The values of codes and scales, in original space. */
  readonly restored: Float32Array;
}

/** How a matrix is encoded. */
export interface EncodeOptions {
  readonly rows: number;
  readonly cols: number;
  readonly groupRows: number;
  readonly groupCols: number;
  readonly convrot?: number;
}

/** Quantizes by round to nearest, rotating first if `convrot` is set. */
export function encode(values: Float32Array, { convrot, ...grid }: EncodeOptions): Encoded {
  const x = values.slice();
  if (convrot !== undefined) referenceKernels.rotate(x, convrot);
  const groups = (grid.rows / grid.groupRows) * (grid.cols / grid.groupCols);
  const scales = new Float32Array(groups);
  referenceKernels.absmax(scales, x, grid);
  referenceKernels.scaleFromAbsmax(scales, scales);
  const codes = new Int8Array(x.length);
  referenceKernels.quantize(codes, x, scales, grid);
  const restored = new Float32Array(x.length);
  referenceKernels.dequantize(restored, codes, scales, grid);
  if (convrot !== undefined) referenceKernels.rotate(restored, convrot);
  return { codes, scales, restored };
}

/** Returns a `comfy_quant` tensor. */
export function markerTensor(layer: string, marker: Record<string, unknown> | string): Tensor {
  const text = typeof marker === "string" ? marker : JSON.stringify(marker);
  const bytes = new TextEncoder().encode(text);
  return tensorOf(`${layer}.comfy_quant`, "U8", [bytes.length], bytes);
}

/** Returns the three tensors of a row-scaled INT8 layer as stock ComfyUI loads it. */
export function int8Layer(
  layer: string,
  values: Float32Array,
  { rows, cols, convrot }: { rows: number; cols: number; convrot?: number },
): { tensors: Tensor[]; encoded: Encoded } {
  const rotation = convrot === undefined ? {} : { convrot };
  const encoded = encode(values, { rows, cols, groupRows: 1, groupCols: cols, ...rotation });
  const marker = convrot === undefined
    ? { format: "int8_tensorwise" }
    : { format: "int8_tensorwise", convrot: true, convrot_groupsize: convrot };
  return {
    encoded,
    tensors: [
      tensorOf(`${layer}.weight`, "I8", [rows, cols], encoded.codes),
      tensorOf(`${layer}.weight_scale`, "F32", [rows, 1], encoded.scales),
      markerTensor(layer, marker),
    ],
  };
}

/** The worker that the pool runs in tests. */
export const WORKER_URL = new URL("../../src/run/workers/worker.ts", import.meta.url);
