/** Notes on the expert banks of a plan, to be read before the work. */

import { looksLikeBank } from "../presets/banks.ts";
import type { Plan, PlannedTensor } from "./plan.ts";

/** Kept banks are worth a warning from this share of the model on. */
const LEAST_SHARE = 0.01;

/** Returns what to know of the banks of a plan: rotation that older ComfyUI drops, and what is kept. */
export function bankNotes({ tensors, totals }: Pick<Plan, "tensors" | "totals">): string[] {
  return [...rotatedNotes(tensors), ...keptNotes(tensors, totals.inputBytes)];
}

function rotatedNotes(tensors: readonly PlannedTensor[]): string[] {
  const banks = tensors.filter(({ source, scheme }) =>
    scheme !== null && source.shape.length === 3
  );
  const rotated = banks.filter(({ scheme }) => scheme!.convrotGroupSize !== null).length;
  if (rotated === 0) return [];
  return [
    `${rotated} expert ${rotated === 1 ? "bank is" : "banks are"} rotated, which needs a ComfyUI ` +
    "LATER THAN 0.33.0 (21 August 2026): 0.33.0 loads them, drops the rotation and computes garbage; " +
    "--convrot off writes plain rows, which are right in both",
  ];
}

function keptNotes(tensors: readonly PlannedTensor[], inputBytes: number): string[] {
  const kept = tensors.filter(({ source, action }) => action === "keep" && looksLikeBank(source));
  const bytes = kept.reduce((sum, { source }) => sum + source.byteLength, 0);
  if (inputBytes === 0 || bytes < LEAST_SHARE * inputBytes) return [];
  const share = (100 * bytes / inputBytes).toFixed(0);
  const count = kept.length === 1 ? "1 3-D tensor is" : `${kept.length} 3-D tensors are`;
  return [
    `${count} kept, ${share}% of the model: stock ComfyUI reads such tensors raw, but for the expert ` +
    `banks of families that it has a quantized path for (${kept[0]!.source.name}: ${
      kept[0]!.reason
    })`,
  ];
}
