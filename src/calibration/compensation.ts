/** How the errors of a layer are compensated: what is known of its inputs, and what the options say. */

import { DAMPING_DEFAULT } from "../linalg/damping.ts";
import type { LayerStatistic, LoraDirections, StatisticData } from "./calibration.ts";
import { fittedRows, heldOutRows, type Holdout, type LayerInputs } from "./layer_inputs.ts";
import type { ConvertOptions, Segments } from "../plan/options.ts";

/**
 * The statistics by which the errors of a layer are compensated: statistics of its inputs, and how they are
 * used.
 */
export interface Compensation extends LayerStatistic {
  /** Columns of most energy are rounded first. */
  readonly actOrder: boolean;
  /** Directions that weigh more than in the inputs; null: none. */
  readonly directions: LoraDirections | null;
  /** Fraction of the mean diagonal that is added to the Hessian, to begin with. */
  readonly damping: number;
  /** Errors are fed back in 16-bit integers. */
  readonly turbo: boolean;
  /** Elements of the Hessian off its diagonal are multiplied by this. */
  readonly pairs: number;
  /**
   * Rows whose weight error would exceed that of plain rounding are rounded plainly, and damping is so
   * strong that few do.
   */
  readonly guarded: boolean;
  /** Into how many parts the columns of a large layer are cut, each compensated on its own; null: none. */
  readonly segments: Segments | null;
  /** Whether scales are those of least error after compensation, if codes are in original space. */
  readonly weightedScales: boolean;
  /** Whether scales are searched if there turns out to be nothing to compensate by. */
  readonly fallbackScaleSearch: boolean;
  /** Checksum of a sample of the data; null: no other layer looks for it. See `data_sample.ts`. */
  readonly sample: number | null;
  /** Rows of the inputs that nothing is fitted to, by which rounding is held to its gain; null: none. */
  readonly heldOut: HeldOutRows | null;
}

/** Rows of the activations: `firstRow`, `firstRow + rowStep`, ... */
export type HeldOutRows = Pick<LayerInputs, "firstRow" | "rowStep" | "rows"> & {
  /** Place of the activations; absent: they are what is fitted to. */
  readonly data?: StatisticData;
};

/** Rows that compensation is held to, at most: what they cost grows with their number. */
const GUARD_ROWS_MAX = 64;

/**
 * Returns what a layer is fitted to of `statistic`, and which rows of its activations hold it to its gain.
 *
 * @param holdout see `fittedRows`.
 */
export function fittedPart(
  statistic: LayerStatistic,
  holdout: Holdout,
): { readonly rows: number; readonly heldOut: HeldOutRows | null } {
  const { judgedBy } = statistic;
  if (statistic.statistic === "hessian" && judgedBy !== undefined) {
    const rows = heldOutRows(judgedBy, holdout, GUARD_ROWS_MAX);
    const heldOut = rows === null ? null : { ...rows, data: judgedBy.data };
    return { rows: statistic.rows, heldOut };
  }
  if (statistic.statistic !== "activations") return { rows: statistic.rows, heldOut: null };
  return {
    rows: fittedRows(statistic, holdout),
    heldOut: heldOutRows(statistic, holdout, GUARD_ROWS_MAX),
  };
}

/**
 * Returns the compensation of a layer by `statistic`.
 *
 * @param directions of a LoRA that weigh more than in the inputs; null: none.
 * @param heldOut rows of the activations behind those of `statistic`; null: none.
 * @param sample of `dataSample`; null: none was taken.
 */
export function compensationBy(
  statistic: LayerStatistic,
  { actOrder, turbo, scaleSearch, segments }: Pick<
    ConvertOptions,
    "actOrder" | "turbo" | "scaleSearch" | "segments"
  >,
  directions: LoraDirections | null = null,
  heldOut: HeldOutRows | null = null,
  sample: number | null = null,
): Compensation {
  return {
    ...statistic,
    directions,
    actOrder,
    turbo,
    damping: DAMPING_DEFAULT,
    pairs: 1,
    weightedScales: scaleSearch === null,
    guarded: false,
    segments,
    fallbackScaleSearch: (scaleSearch ?? "mse") === "mse",
    sample,
    heldOut,
  };
}
