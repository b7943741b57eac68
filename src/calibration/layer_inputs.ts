/** Which rows of the calibration data a layer is fitted to, which it is measured with, and its mean input. */

import type { Calibration, LayerStatistic, StatisticData } from "./calibration.ts";

/** Rows of calibration data that something is computed from: `firstRow`, `firstRow + rowStep`, ... */
export interface LayerInputs {
  /** What the rows are: inputs of the layer, or its second moments. */
  readonly statistic: "activations" | "hessian";
  readonly firstRow: number;
  readonly rowStep: number;
  readonly rows: number;
  readonly cols: number;
  readonly data: StatisticData;
}

/** What is known of the mean input of a layer: rows of inputs, or the mean itself. */
export type MeanInput =
  | { readonly kind: "rows"; readonly inputs: LayerInputs }
  | { readonly kind: "mean"; readonly inputs: LayerInputs };

/**
 * Which inputs an error was measured with: some that rounding did not see; those it was fitted to, where
 * compensation looks better than it is; some of which nobody knows (`verify`); or second moments only.
 */
export type MeasuredOn = "held-out rows" | "calibration rows" | "given rows" | "hessian";

/** Inputs that an error is measured with, at most: spread evenly over all there are. */
export const MEASURED_ROWS_MAX = 128;

/** How calibration data is placed among the files of a run, and shared out. */
export interface InputsOptions {
  /** Number of the first calibration file in the run. */
  readonly fileOffset: number;
  /** Fraction of the rows, the last ones, that nothing is fitted to: 0 to 0.9. */
  readonly holdout: number;
}

/** Returns how many of `rows` rows are fitted to, the first ones; at least one. */
export function fittedRows(rows: number, holdout: number): number {
  return Math.max(1, rows - Math.floor(rows * holdout));
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

/** Returns what the outputs of `layer` are measured with; null where the data has no inputs of it. */
export function measuringInputs(
  { fields }: Calibration,
  layer: string,
  options: InputsOptions,
): { readonly inputs: LayerInputs; readonly on: MeasuredOn } | null {
  const { activations, hessian } = fields.get(layer) ?? {};
  if (activations !== undefined) {
    const fitted = fittedRows(activations.rows, options.holdout);
    const isHeldOut = fitted < activations.rows;
    const first = isHeldOut ? fitted : 0, count = activations.rows - first;
    const rowStep = Math.ceil(count / MEASURED_ROWS_MAX);
    const rows = Math.ceil(count / rowStep);
    return {
      inputs: rowsOf(
        activations,
        { statistic: "activations", firstRow: first, rowStep, rows },
        options,
      ),
      on: isHeldOut ? "held-out rows" : "calibration rows",
    };
  }
  if (hessian === undefined) return null;
  const all = { statistic: "hessian", firstRow: 0, rowStep: 1, rows: hessian.rows } as const;
  return { inputs: rowsOf(hessian, all, options), on: "hessian" };
}

/** Returns what is known of the mean input of `layer`; null where nothing real is. */
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

/** Where the scale of static activations is from: written in the data, or to be computed from inputs. */
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
  const rows = fittedRows(activations.rows, options.holdout);
  return rowsOf(activations, { statistic: "activations", firstRow: 0, rowStep: 1, rows }, options);
}
