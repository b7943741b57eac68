/** `quantsmith compare A B --report FILE.html`: two conversions of one model on one page. */

import { layerName } from "../../core/layer_name.ts";
import { type Comparison, factRows, mostDifferent, summary } from "../compare.ts";
import { formatPercent } from "../format.ts";
import { MEASURE_NAMES } from "../verdict.ts";
import { escaped, fileName, pageOf, tableOf } from "./page_shell.ts";

const ROWS = 25;

/** Returns the page. */
export function comparePage(comparison: Comparison): string {
  const { a, b, measure, layers } = comparison;
  const names = [fileName(a.output), fileName(b.output)];
  const differing = mostDifferent(comparison).slice(0, ROWS);
  return pageOf({
    title: `${names[0]} and ${names[1]}`,
    body: [
      `<h1>${escaped(names[0]!)} and ${escaped(names[1]!)}</h1>`,
      `<p>A: ${escaped(a.output)}</p>`,
      `<p>B: ${escaped(b.output)}</p>`,
      `<p class="verdict">${escaped(summary(comparison))}</p>`,
      tableOf(["", "A", "B"], factRows(comparison).map((cells) => ({ cells }))),
      `<h2>Every layer</h2>
<p>${
        escaped(MEASURE_NAMES[measure])
      } on a logarithmic axis, in the order of the model. Drag to zoom, double-click to zoom out.</p>
<div class="chart" id="layers"></div>`,
      `<h2>Largest differences</h2>`,
      tableOf(
        ["layer", { number: "A" }, { number: "B" }, { number: "B / A" }],
        differing.map(({ name, a, b, ratio }) => ({
          cells: [
            layerName(name),
            { number: formatPercent(a!) },
            { number: formatPercent(b!) },
            { number: ratio.toFixed(2) },
          ],
        })),
      ),
    ].join("\n"),
    data: {
      layers: layers.length === 0 ? null : {
        names: layers.map(({ name }) => layerName(name)),
        series: [
          { label: "A", errors: layers.map((layer) => layer.a) },
          { label: "B", errors: layers.map((layer) => layer.b) },
        ],
        lines: [],
      },
      histograms: [],
    },
  });
}
