/** A plan in the words and numbers that a page shows. */

import { basename } from "node:path";
import { methodOf } from "../../src/cli/method_line.ts";
import { autoOutputName, nameFacts } from "../../src/cli/output_name.ts";
import { loraLine } from "../../src/cli/plan_report.ts";
import type { LoraReport } from "../../src/lora/plan_merge.ts";
import type { ConvertOptions } from "../../src/plan/options.ts";
import type { Plan } from "../../src/plan/plan.ts";
import type { PlanFacts } from "./protocol.ts";

/** Returns what a page shows of `plan`. */
export function planFacts(
  plan: Plan,
  { model, options, notes, loras, outputName, expectedError }: {
    model: string;
    options: ConvertOptions;
    notes: readonly string[];
    loras: readonly LoraReport[];
    outputName: string | null;
    expectedError: number | null;
  },
): PlanFacts {
  const { totals } = plan;
  return {
    outputName: outputName ?? outputNameOf(model, plan, options),
    quantize: totals.quantize,
    keep: totals.keep,
    cast: totals.cast,
    remove: totals.remove,
    inputBytes: totals.inputBytes,
    outputBytes: totals.outputBytes,
    expectedError,
    method: methodOf(plan, options),
    notes,
    loras: loras.map(loraLine),
  };
}

/** Returns the name of an output after what it holds. */
export function outputNameOf(model: string, plan: Plan, options: ConvertOptions): string {
  return basename(autoOutputName(model, options, nameFacts(plan)));
}
