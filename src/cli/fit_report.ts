/** What `--fit` and `--max-error` chose, and what else there was. Pure. */

import { groupBy } from "../core/group_by.ts";
import type { FitResult } from "../convert/fit/fit_formats.ts";
import { blockName } from "./plan_groups.ts";
import { formatBytes, formatPercent } from "./format.ts";

/** Blocks that are listed. */
const BLOCKS = 100;

/** Returns one line: `chosen: 12 bf16, 60 int8, 40 w6a8; 11.9 GB, error 1.13 %`. */
function fitLine({ layers, bytes, error }: FitResult): string {
  return `chosen: ${countsText(layers)}; ${formatBytes(bytes)}, error ${formatPercent(error)}`;
}

/** Returns the choice block by block, and sizes against errors. */
export function fitLines(fit: FitResult): string[] {
  const { layers, frontier, single, byOutputs } = fit;
  const blocks = groupBy(layers, ({ name }) => blockName(name));
  const names = [...blocks.keys()].slice(0, BLOCKS);
  const width = Math.max(...names.map((name) => name.length));
  const measure = byOutputs === layers.length
    ? "outputs with int8 inputs, on held-out rows"
    : byOutputs === 0
    ? "weights: calibration data would measure outputs"
    : `outputs of ${byOutputs} layers, weights of the others`;
  return [
    "",
    fitLine(fit),
    `errors are root mean squares over layers by size, of ${measure}`,
    ...names.map((name) => `  ${name.padEnd(width)}  ${countsText(blocks.get(name)!)}`),
    ...(blocks.size > BLOCKS ? [`  and ${blocks.size - BLOCKS} more blocks`] : []),
    "",
    "size against error, the best choice of each size:",
    ...frontier.map(({ bytes, error }) =>
      `  ${formatBytes(bytes).padStart(9)}  ${formatPercent(error).padStart(8)}`
    ),
    "all layers in one format:",
    ...single.map(({ format, bytes, error }) =>
      `  ${formatBytes(bytes).padStart(9)}  ${formatPercent(error).padStart(8)}  ${format}`
    ),
  ];
}

/** The choice for programs. */
export function fitJson(fit: FitResult | null): Record<string, unknown> | null {
  if (fit === null) return null;
  return {
    limit_bytes: fit.limitBytes,
    max_error: fit.maxError,
    bytes: fit.bytes,
    error: fit.error,
    is_best: fit.isBest,
    measured_by_outputs: fit.byOutputs,
    layers: fit.layers.map(({ name, format, error, bytes }) => ({ name, format, error, bytes })),
    frontier: fit.frontier.map(({ bytes, error }) => ({ bytes, error })),
    single_formats: fit.single.map(({ format, bytes, error }) => ({ format, bytes, error })),
  };
}

/** Returns `12 bf16, 60 int8`. */
export function countsText(layers: FitResult["layers"]): string {
  const counts = groupBy(layers, ({ format }) => format);
  return [...counts].map(([format, { length }]) => `${length} ${format}`).join(", ");
}
