/** GPTQ of a whole layer by one thread, made from the pieces that the pipeline gives to workers. */

import { type LinalgContext, withScratch } from "../../src/linalg/context.ts";
import type { Hessian } from "../../src/linalg/hessian.ts";
import { rotateHessian } from "../../src/linalg/rotate_hessian.ts";
import { type GptqOptions, type GptqReport, gptqRows, prepareGptq } from "../../src/quant/gptq.ts";
import type { GptqRows } from "../../src/quant/rows_in_order.ts";

/** A whole layer. */
export interface GptqLayer extends GptqOptions, Omit<GptqRows, "firstRow"> {
  /** In the space the weights were in before rotation. Used up. */
  readonly hessian: Hessian;
  /** The rotation that the weights already have; the Hessian gets it here. Null: none. */
  readonly convrotGroupSize: number | null;
}

/** Rounds all rows; returns what became of the Hessian. */
export function gptqLayer(context: LinalgContext, layer: GptqLayer): GptqReport {
  const { hessian, convrotGroupSize: group } = layer;
  return withScratch(context, () => {
    const spare = group !== null && hessian.blockSize < group
      ? context.memory.f64(hessian.size * group)
      : null;
    const rotated = group === null ? hessian : rotateHessian(context, hessian, group, spare);
    const factor = prepareGptq(context, rotated, layer);
    gptqRows(context, factor, { ...layer, firstRow: 0 });
    return factor.report;
  });
}
