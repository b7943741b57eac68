/** Which rows of the calibration data a layer is fitted to, which it is measured with, and its mean input. */

import type { Calibration, LayerStatistic, StatisticData } from "./calibration.ts";

/** Rows of calibration data that something is computed from: `firstRow`, `firstRow + rowStep`, ... */
export interface LayerInputs {
  /** Kind of the rows: inputs of the layer, or its second moments. */
  readonly statistic: "activations" | "hessian";
  readonly firstRow: number;
  readonly rowStep: number;
  readonly rows: number;
  readonly cols: number;
  readonly data: StatisticData;
}

/** Known mean input of a layer: rows of inputs, or the mean itself. */
export type MeanInput =
  | { readonly kind: "rows"; readonly inputs: LayerInputs }
  | { readonly kind: "mean"; readonly inputs: LayerInputs };

/**
 * Which inputs an error was measured with: some that rounding did not see; those it was fitted to, where
 * compensation looks better than it is; some of which nobody knows (`verify`); or second moments only.
 */
export type MeasuredOn = "held-out rows" | "calibration rows" | "given rows" | "hessian";

/** Inputs that an error is measured with, at most: spread evenly over all there are. */
const MEASURED_ROWS_MAX = 128;

/** How calibration data is placed among the files of a run, and shared out. */
export interface InputsOptions {
  /** Number of the first calibration file in the run. */
  readonly fileOffset: number;
  /** See {@link fittedRows}. */
  readonly holdout: Holdout;
}

/** The fraction of the rows, the last ones, that nothing is fitted to: 0 to 0.9; null: as many as suffice. */
export type Holdout = number | null;

/** Of so many rows one is held out, up to so many in all: more would cost more than they show. */
const ROWS_PER_HELD_OUT = 8, HELD_OUT_MAX = 64;

/** The largest part of the rows that is held out to keep rows of one origin together. */
const HELD_OUT_SHARE_MAX = 0.25;

/**
 * Returns how many of the rows of `activations` are fitted to, the first ones; at least one. The others are
 * held out: all that is reported, and the decision whether compensation is any use, goes by them. They are
 * of other origins than the rows before, if the data says where its rows are from and that holds out no
 * more than a quarter.
 */
export function fittedRows(
  { rows, origins = [] }: Pick<LayerStatistic, "rows" | "origins">,
  holdout: Holdout,
): number {
  const wanted = holdout === null
    ? Math.min(Math.floor(rows / ROWS_PER_HELD_OUT), HELD_OUT_MAX)
    : Math.floor(rows * holdout);
  if (wanted === 0) return Math.max(1, rows);
  const byOrigin = heldOutOrigins(origins, wanted);
  const most = Math.max(wanted, rows * HELD_OUT_SHARE_MAX);
  const heldOut = byOrigin !== null && byOrigin <= most ? byOrigin : wanted;
  return Math.max(1, rows - heldOut);
}

/** The rows of the last origins, as near to `wanted` as can be; null if no origin would be left. */
function heldOutOrigins(origins: readonly number[], wanted: number): number | null {
  let best: number | null = null, sum = 0;
  for (const count of origins.slice(1).reverse()) {
    sum += count;
    if (best === null || Math.abs(sum - wanted) < Math.abs(best - wanted)) best = sum;
  }
  return best;
}

/** Returns the rows of `activations` that are held out, at most `most`; null if there are none. */
export function heldOutRows(
  activations: Pick<LayerStatistic, "rows" | "origins">,
  holdout: Holdout,
  most: number,
): Pick<LayerInputs, "firstRow" | "rowStep" | "rows"> | null {
  const firstRow = fittedRows(activations, holdout);
  const count = activations.rows - firstRow;
  return count === 0 ? null : spread(firstRow, count, most);
}

/** At most `most` of `count` rows from `firstRow` on, evenly. */
function spread(firstRow: number, count: number, most: number) {
  const rowStep = Math.ceil(count / most);
  return { firstRow, rowStep, rows: Math.ceil(count / rowStep) };
}

function placed(data: StatisticData, { fileOffset }: InputsOptions): StatisticData {
  return data.kind === "file" ? { ...data, file: data.file + fileOffset } : data;
}

function rowsOf(
  { data, cols }: LayerStatistic,
  rows: Pick<LayerInputs, "statistic" | "firstRow" | "rowStep" | "rows">,
  options: InputsOptions,
): LayerInputs {
  return { ...rows, cols, data: placed(data, options) };
}

/** Returns what the outputs of `layer` are measured with; null if the data has no inputs of it. */
export function measuringInputs(
  { fields }: Calibration,
  layer: string,
  options: InputsOptions,
): { readonly inputs: LayerInputs; readonly on: MeasuredOn } | null {
  const { activations, hessian } = fields.get(layer) ?? {};
  if (activations !== undefined) {
    const heldOut = heldOutRows(activations, options.holdout, MEASURED_ROWS_MAX);
    const rows = heldOut ?? spread(0, activations.rows, MEASURED_ROWS_MAX);
    return {
      inputs: rowsOf(activations, { statistic: "activations", ...rows }, options),
      on: heldOut === null ? "calibration rows" : "held-out rows",
    };
  }
  if (hessian === undefined) return null;
  const all = { statistic: "hessian", firstRow: 0, rowStep: 1, rows: hessian.rows } as const;
  return { inputs: rowsOf(hessian, all, options), on: "hessian" };
}

/** Returns what is known of the mean input of `layer`; null if nothing real is. */
export function meanInput(
  { fields, isSynthetic }: Calibration,
  layer: string,
  options: InputsOptions,
): MeanInput | null {
  const { activations, channel_mean: mean } = fields.get(layer) ?? {};
  if (isSynthetic) return null;
  if (activations !== undefined) {
    return { kind: "rows", inputs: fittedInputs(activations, options) };
  }
  if (mean === undefined) return null;
  const one = { statistic: "activations", firstRow: 0, rowStep: 1, rows: 1 } as const;
  return { kind: "mean", inputs: rowsOf(mean, one, options) };
}

/** Origin of the scale of static activations: written in the data, or to be computed from inputs. */
export function scaleInput(
  { fields, isSynthetic }: Calibration,
  layer: string,
  options: InputsOptions,
): { readonly kind: "given" | "rows"; readonly inputs: LayerInputs } | null {
  const { activations, input_scale: given } = fields.get(layer) ?? {};
  const one = { statistic: "activations", firstRow: 0, rowStep: 1, rows: 1 } as const;
  if (given !== undefined) return { kind: "given", inputs: rowsOf(given, one, options) };
  if (activations === undefined || isSynthetic) return null;
  return { kind: "rows", inputs: fittedInputs(activations, options) };
}

function fittedInputs(activations: LayerStatistic, options: InputsOptions): LayerInputs {
  const rows = fittedRows(activations, options.holdout);
  return rowsOf(activations, { statistic: "activations", firstRow: 0, rowStep: 1, rows }, options);
}
