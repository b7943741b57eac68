/** Two conversions of one model, layer by layer. Pure. */

import { formatBytes, formatPercent, visible } from "./format.ts";
import { errorIn } from "./report/html.ts";
import { inModelOrder } from "./report/layer_order.ts";
import type { ReportJson } from "./report/report_data.ts";
import { type Measure, MEASURE_NAMES } from "./verdict.ts";

/** A layer that at least one of the files has quantized. */
export interface ComparedPair {
  readonly name: string;
  /** Relative errors; null if the file has not quantized the layer. */
  readonly a: number | null;
  readonly b: number | null;
}

/** Result of a comparison. */
export interface Comparison {
  readonly a: ReportJson;
  readonly b: ReportJson;
  /** The measure that both files have. */
  readonly measure: Measure;
  /** In the order of the model. */
  readonly layers: readonly ComparedPair[];
  /** Geometric mean over the layers of both: error of B over error of A. Null if there are none. */
  readonly ratio: number | null;
  /** How many layers of both have the smaller error in A, in B, and the same in both. */
  readonly better: { readonly a: number; readonly b: number; readonly same: number };
}

/** Errors closer than this are called the same. */
const SAME = 0.005;

/** Rows of the table of differences. */
const LISTED = 10;

/** Returns the comparison of two reports. */
export function compareReports(a: ReportJson, b: ReportJson): Comparison {
  const measures: readonly Measure[] = ["w8a8", "w8a16"];
  const measure =
    measures.find((each) =>
      [a, b].every(({ layers }) => layers.some((layer) => errorIn(layer, each) !== null))
    ) ?? "weights";
  const errors = (report: ReportJson) =>
    new Map(report.layers.map((layer) => [layer.name, errorIn(layer, measure)]));
  const ofA = errors(a), ofB = errors(b);
  const names = [...new Set([...ofA.keys(), ...ofB.keys()])].map((name) => ({ name }));
  const layers = inModelOrder(names).map(({ name }) => ({
    name,
    a: ofA.get(name) ?? null,
    b: ofB.get(name) ?? null,
  }));
  const ratios = layers.flatMap(({ a, b }) => a === null || b === null ? [] : [ratioOf(a, b)]);
  const isSame = (ratio: number) => Math.abs(Math.log(ratio)) <= SAME;
  return {
    a,
    b,
    measure,
    layers,
    ratio: ratios.length === 0
      ? null
      : Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length),
    better: {
      a: ratios.filter((ratio) => ratio > 1 && !isSame(ratio)).length,
      b: ratios.filter((ratio) => ratio < 1 && !isSame(ratio)).length,
      same: ratios.filter(isSame).length,
    },
  };
}

/** Returns `b / a` for errors; those below 1e-9 count as 1e-9. */
function ratioOf(a: number, b: number): number {
  return Math.max(b, 1e-9) / Math.max(a, 1e-9);
}

/** Returns the layers that both files have, those that differ most first. */
export function mostDifferent(
  { layers }: Comparison,
): readonly (ComparedPair & { ratio: number })[] {
  return layers.flatMap((layer) =>
    layer.a === null || layer.b === null ? [] : [{ ...layer, ratio: ratioOf(layer.a, layer.b) }]
  ).sort((x, y) => Math.abs(Math.log(y.ratio)) - Math.abs(Math.log(x.ratio)));
}

/** Returns the facts of both files in rows: title, A, B. */
export function factRows({ a, b }: Comparison): [string, string, string][] {
  const fact = (title: string, of: (report: ReportJson) => string): [string, string, string] => [
    title,
    of(a),
    of(b),
  ];
  return [
    fact("size", ({ output_bytes }) => formatBytes(output_bytes)),
    fact("quantized layers", ({ layers }) => String(layers.length)),
    fact("verdict", ({ verdict }) => verdict?.grade ?? "-"),
    fact("error", ({ verdict }) => verdict === null ? "-" : formatPercent(verdict.error)),
    fact("measured", ({ verdict }) => verdict === null ? "-" : MEASURE_NAMES[verdict.measure]),
    fact(
      "worst layer",
      ({ verdict }) => verdict === null ? "-" : formatPercent(verdict.worst_error),
    ),
  ];
}

/** Returns the sentence that sums the comparison up. */
export function summary({ measure, ratio, better }: Comparison): string {
  if (ratio === null) return "no layer is quantized in both files";
  const layers = better.a + better.b + better.same;
  const how = Math.abs(Math.log(ratio)) <= SAME
    ? "both have the same error"
    : ratio > 1
    ? `A is better: B has ${ratio.toFixed(2)} times its ${MEASURE_NAMES[measure]}`
    : `B is better: A has ${(1 / ratio).toFixed(2)} times its ${MEASURE_NAMES[measure]}`;
  return `${how} (geometric mean of ${layers} layers; A is better in ${better.a}, B in ${better.b}, ` +
    `equal in ${better.same})`;
}

/** Returns the lines of `quantsmith compare`. */
export function comparisonLines(comparison: Comparison): string[] {
  const { a, b } = comparison;
  const rows = table([["", "A", "B"], ...factRows(comparison)]);
  const only = (of: "a" | "b") =>
    comparison.layers.filter((layer) => layer[of === "a" ? "b" : "a"] === null).length;
  const differing = mostDifferent(comparison).slice(0, LISTED);
  const onlyLines = [["A", only("a")] as const, ["B", only("b")] as const]
    .filter(([, count]) => count > 0)
    .map(([which, count]) => `quantized in ${which} only: ${count} layers`);
  return [
    `A: ${visible(a.output)}`,
    `B: ${visible(b.output)}`,
    "",
    ...rows,
    "",
    summary(comparison),
    ...onlyLines,
    ...(differing.length === 0 ? [] : [
      "",
      "largest differences:",
      ...table([
        ["A", "B", "B / A", "layer"],
        ...differing.map(({ name, a, b, ratio }) => [
          formatPercent(a!),
          formatPercent(b!),
          ratio.toFixed(2),
          visible(name),
        ]),
      ]),
    ]),
  ];
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows.map((row) =>
    `  ${row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ")}`.trimEnd()
  );
}

/** Returns the comparison for programs. */
export function comparisonJson(comparison: Comparison): Record<string, unknown> {
  const { a, b, measure, layers, ratio, better } = comparison;
  const side = ({ output, output_bytes, verdict }: ReportJson) => ({
    output,
    output_bytes,
    verdict,
  });
  return { a: side(a), b: side(b), measure, ratio, better, layers };
}
