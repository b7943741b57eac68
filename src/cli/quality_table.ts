/** The quality of a conversion as a table: the worst layers first. */

import { formatPercent, shortName, visible } from "./format.ts";
import { formatSqnr, statisticCells, TABLE_TITLES } from "./statistic_columns.ts";
import { type LayerErrors, overallErrors } from "../run/layer_statistics.ts";
import { type OutputErrors, overallOutput, worstFirst } from "../convert/output_errors.ts";
import type { MeasuredOn } from "../calibration/layer_inputs.ts";

/** The facts of a layer that the table shows. */
export interface MeasuredLayer {
  readonly name: string;
  readonly errors: LayerErrors;
  readonly stats: Float64Array;
  /** Errors of its outputs, if they were measured. */
  readonly output?: OutputErrors | null;
}

/** Returns the same in a sentence: `42.57 dB`, or `exact`. */
export function sqnrPhrase(sqnrDb: number | null): string {
  return sqnrDb === null ? "exact" : `${formatSqnr(sqnrDb)} dB`;
}

const ON: Readonly<Record<MeasuredOn | "mixed", string>> = {
  "held-out rows": "on rows of the calibration data that nothing was fitted to",
  "calibration rows":
    "on the calibration rows themselves, which flatters what was fitted to them " +
    "(--calibration-holdout keeps some apart)",
  "given rows": "on the rows of the calibration data given here",
  hessian: "from the Hessians of the calibration data, activations as they are",
  mixed: "on what the calibration data has of each layer: held-out rows, all rows or a Hessian",
};

/** Layers that a table lists by default: the worst. */
const LISTED = 10;

/**
 * Returns the table: one line for each of the worst layers, one for the whole, how many layers are not
 * listed, and what output errors were measured on.
 *
 * @param layers in any order
 * @param options `thresholdDb` marks the layers below it; `most` layers are listed; names are shortened to
 *   fit `columns`
 */
export function qualityTable(
  layers: readonly MeasuredLayer[],
  { thresholdDb, most = LISTED, columns = Infinity }: {
    thresholdDb: number;
    most?: number;
    columns?: number;
  },
): string[] {
  const overall = overallErrors(layers);
  if (overall === null) return ["No layer was quantized."];
  const output = overallOutput(layers);
  const isMeasured = output !== null;
  const rows = worstFirst(layers).slice(0, most).map((layer) =>
    row(layer.name, layer.errors, { output: layer.output ?? null, isMeasured, thresholdDb })
  );
  rows.push(row(`all ${layers.length} layers`, overall, { output, isMeasured, thresholdDb }));
  const header = [
    ...(isMeasured ? ["W8A16", "W8A8"] : []),
    ...TABLE_TITLES,
    "layer",
  ];
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((r) => r[i]!.length)));
  const free = columns - widths.slice(0, -1).reduce((sum, width) => sum + width + 2, 0);
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) =>
      i === cells.length - 1 ? shortEnd(cell, free) : cell.padStart(widths[i]!)
    ).join("  ");
  const legend = output === null ? [] : [
    `W8A16, W8A8: relative error of outputs (int8 activations in W8A8), geometric means at the end, ` +
    `measured ${ON[output.on]}`,
  ];
  const title = layers.length > most
    ? `worst ${most} of ${layers.length} layers:`
    : `${layers.length} ${layers.length === 1 ? "layer" : "layers"}, worst first:`;
  const more = layers.length > most ? ["--report FILE.html or FILE.json has all layers"] : [];
  return [title, line(header), ...rows.map(line), ...legend, ...more];
}

/** A layer's name as it fits, with what stands behind it. */
function shortEnd(cell: string, columns: number): string {
  if (cell.length <= columns) return cell;
  const [name = "", ...rest] = cell.split("  ");
  const more = rest.length === 0 ? "" : `  ${rest.join("  ")}`;
  return shortName(name, Math.max(MIN_NAME_COLUMNS, columns - more.length)) + more;
}

const MIN_NAME_COLUMNS = 12;

function row(
  name: string,
  errors: LayerErrors,
  { output, isMeasured, thresholdDb }: {
    output: Pick<OutputErrors, "w8a16" | "w8a8"> | null;
    isMeasured: boolean;
    thresholdDb: number;
  },
): string[] {
  const low = errors.sqnrDb !== null && errors.sqnrDb < thresholdDb;
  const cell = (error: number | null | undefined) => error == null ? "-" : formatPercent(error);
  return [
    ...(isMeasured ? [cell(output?.w8a16), cell(output?.w8a8)] : []),
    ...statisticCells(errors, "table"),
    low ? `${visible(name)}  (below ${thresholdDb} dB)` : visible(name),
  ];
}
