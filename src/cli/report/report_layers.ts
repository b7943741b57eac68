/** `--report-layers`, checked before the work. */

import { layerName } from "../../core/layer_name.ts";
import { compileLayerPattern } from "../../config/layer_pattern.ts";
import type { Plan } from "../../plan/plan.ts";
import { refuseUnmatched } from "../../plan/unmatched_patterns.ts";
import type { ConvertIo } from "../request.ts";

/** @throws UsageError if `--report-layers` matches nothing that is quantized. */
export function checkReportLayers(
  { reportLayers }: Pick<ConvertIo, "reportLayers">,
  plan: Pick<Plan, "tensors">,
): void {
  if (reportLayers === null) return;
  const pattern = compileLayerPattern(reportLayers, { place: "--report-layers" });
  const layers = plan.tensors.filter(({ action }) => action === "quantize")
    .map(({ source }) => layerName(source.name));
  if (layers.some((layer) => pattern.test(layer))) return;
  refuseUnmatched(
    [{ pattern: reportLayers, place: "--report-layers" }],
    layers,
    "layers that are quantized",
  );
}
