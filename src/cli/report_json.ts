/** `--report FILE.json`: what a conversion did, for programs. */

import type { ConvertResult } from "../pipeline/convert.ts";
import { planJson } from "./plan_report.ts";
import { worstLayersFirst } from "../pipeline/layer_errors.ts";
import { overallOf } from "./quality_table.ts";

/** Returns the report: the plan, the errors of every quantized layer (worst first), the whole. */
export function conversionReport(result: ConvertResult): Record<string, unknown> {
  return {
    output: result.output,
    elapsed_ms: Math.round(result.elapsedMs),
    workers: result.workers,
    overall: overallOf(result.layers),
    layers: worstLayersFirst(result.layers).map(({ name, shape, errors }) => ({
      name,
      shape,
      errors,
    })),
    plan: planJson(result.plan),
  };
}
