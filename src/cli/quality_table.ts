/** The quality of a conversion as a table: the worst layers first. */

import { visible } from "./format.ts";
import type { LayerResult } from "../pipeline/convert.ts";
import {
  type LayerErrors,
  layerErrors,
  sumStats,
  worstLayersFirst,
} from "../pipeline/layer_errors.ts";

/** Errors of all layers taken together: the sums are added, not the ratios. */
export function overallOf(layers: readonly MeasuredLayer[]): LayerErrors | null {
  return layers.length === 0 ? null : layerErrors(sumStats(layers.map(({ stats }) => stats)));
}

/** What the table says of a layer. */
export type MeasuredLayer = Pick<LayerResult, "name" | "errors" | "stats">;

/** Returns `42.57`, or `exact` for a layer without error. */
export function formatSqnr(sqnrDb: number | null): string {
  return sqnrDb === null ? "exact" : sqnrDb.toFixed(2);
}

/**
 * Returns the table, one line per layer and one for the whole.
 *
 * @param layers in any order
 * @param options `thresholdDb` marks the layers below it
 */
export function qualityTable(
  layers: readonly MeasuredLayer[],
  { thresholdDb }: { thresholdDb: number },
): string[] {
  const overall = overallOf(layers);
  if (overall === null) return ["No layer was quantized."];
  const rows = worstLayersFirst(layers).map(({ name, errors }) => row(name, errors, thresholdDb));
  rows.push(row(`all ${layers.length} layers`, overall, thresholdDb));
  const header = ["SQNR dB", "rel error", "cosine", "max error", "layer"];
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((r) => r[i]!.length)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => i === cells.length - 1 ? cell : cell.padStart(widths[i]!)).join("  ");
  return [line(header), ...rows.map(line)];
}

function row(name: string, errors: LayerErrors, thresholdDb: number): string[] {
  const low = errors.sqnrDb !== null && errors.sqnrDb < thresholdDb;
  return [
    formatSqnr(errors.sqnrDb),
    errors.relativeError.toExponential(2),
    errors.cosine.toFixed(6),
    errors.maxAbsError.toExponential(2),
    low ? `${visible(name)}  (below ${thresholdDb} dB)` : visible(name),
  ];
}
