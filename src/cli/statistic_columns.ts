/** The columns of the measures of layers, in the table of qualities and on the page of a report. */

import { formatPercent } from "./format.ts";
import type { LayerErrors } from "../run/layer_statistics.ts";

/** How one measure is shown. */
interface StatisticColumn<Value> {
  /** Heading in the table of the terminal. */
  readonly title: string;
  /** Its text there. */
  cell(value: Value): string;
  /** The same on the page, if it differs. */
  readonly page?: { readonly title: string; cell(value: Value): string };
}

/** Returns `42.57`, or `exact` for a layer without error. */
export function formatSqnr(sqnrDb: number | null): string {
  return sqnrDb === null ? "exact" : sqnrDb.toFixed(2);
}

const exponential = (value: number) => value.toExponential(2);
const short = (value: number) => value.toPrecision(3);

/** The columns, in their order. */
const COLUMNS: { readonly [M in keyof LayerErrors]: StatisticColumn<LayerErrors[M]> } = {
  sqnrDb: { title: "SQNR dB", cell: formatSqnr },
  relativeError: { title: "error", cell: formatPercent },
  cosine: { title: "cosine", cell: (cosine) => cosine.toFixed(6) },
  maxAbsError: {
    title: "max error",
    cell: exponential,
    page: { title: "largest", cell: short },
  },
  mse: { title: "MSE", cell: exponential },
};

/** Measures by name in the order of their columns. */
const ORDER = Object.keys(COLUMNS) as readonly (keyof LayerErrors)[];

/** Headings of the table. */
export const TABLE_TITLES = ORDER.map((name) => COLUMNS[name].title);

/** Headings of the page. */
export const PAGE_TITLES = ORDER.map((name) => (COLUMNS[name].page ?? COLUMNS[name]).title);

/** Returns the cells of a layer, for the table or for the page. */
export function statisticCells(errors: LayerErrors, place: "table" | "page"): string[] {
  return ORDER.map((name) => cellOf(COLUMNS[name], errors[name], place));
}

function cellOf<Value>(
  column: { [M in keyof LayerErrors]: StatisticColumn<LayerErrors[M]> }[keyof LayerErrors],
  value: Value,
  place: "table" | "page",
): string {
  const { cell } = place === "page" ? column.page ?? column : column;
  return (cell as (value: Value) => string)(value);
}
