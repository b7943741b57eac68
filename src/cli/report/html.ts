/**
 * `--report FILE.html`: what a conversion did, for people. One page that needs nothing from the
 * network: its policy forbids any request, charts (uPlot) and data stand inside.
 */

import chartScript from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import chartStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import type { ConvertResult, LayerResult } from "../../convert/convert.ts";
import { overallErrors, worstLayersFirst } from "../../run/layer_statistics.ts";
import { overallOutput, worstFirst } from "../../convert/output_errors.ts";
import { explain } from "../../presets/explain.ts";
import { formatBytes, formatPercent, formatSeconds } from "../format.ts";
import { sqnrPhrase } from "../quality_table.ts";
import { PAGE_TITLES, statisticCells } from "../statistic_columns.ts";
import { versionLine } from "../version.ts";
import pageStyle from "./page.css" with { type: "text" };
import pageScript from "./page.js" with { type: "text" };

/** Rows of the table of the worst layers. */
const TABLE_ROWS = 25;

/** What the page says beside the result. */
export interface ReportFacts {
  /** The model that was converted, as the user named it. */
  readonly input: string;
  /** The method, in a sentence. */
  readonly method: string;
  /** What the Hessians came from, in a few words; null without data. */
  readonly calibration: string | null;
  /** SQNR in dB below which a layer is marked. */
  readonly thresholdDb: number;
  /** How often each code -127..127 occurs, for the layers that are shown. */
  readonly histograms: readonly { readonly name: string; readonly counts: readonly number[] }[];
}

/** Returns the layers whose histograms are shown where none are asked for: the worst six. */
export function shownByDefault(result: ConvertResult): string[] {
  return worstLayersFirst(result.layers).slice(0, 6).map(({ name }) => name);
}

/** Returns the page. */
export function htmlReport(result: ConvertResult, facts: ReportFacts): string {
  const data = {
    layers: result.layers.map(({ name, errors }) => ({ name, error: errors.relativeError })),
    // The error at which the SQNR is that of the threshold.
    limit: 10 ** (-facts.thresholdDb / 20),
    histograms: facts.histograms,
  };
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
<title>${escaped(nameOf(result.output))}: quality</title>
<style>${chartStyle}\n${pageStyle}</style>
</head>
<body>
<h1>${escaped(nameOf(result.output))}</h1>
<p>from ${escaped(facts.input)} · ${escaped(explain(result.plan.detection, result.plan.choice))}</p>
<p>${escaped(facts.method)}</p>
<div class="cards">
${cards(result, facts).join("\n")}
</div>
${sections(result, facts).join("\n")}
<p>Made by ${escaped(versionLine())}. The same input and options give the same file.</p>
<script type="application/json" id="data">${asScript(JSON.stringify(data))}</script>
<script>${asScript(chartScript)}</script>
<script>${asScript(pageScript)}</script>
</body>
</html>
`;
}

function cards(result: ConvertResult, { calibration, thresholdDb }: ReportFacts): string[] {
  const { totals } = result.plan;
  const overall = overallErrors(result.layers);
  const output = overallOutput(result.layers);
  const share = totals.inputBytes === 0 ? 1 : totals.outputBytes / totals.inputBytes;
  const low = result.layers.filter((layer) => isLow(layer, thresholdDb)).length;
  const list: [string, string][] = [
    [
      `${formatBytes(totals.inputBytes)} → ${formatBytes(totals.outputBytes)}`,
      `${(100 * share).toFixed(0)} % of the size before`,
    ],
    [
      `${totals.quantize} quantized`,
      `${totals.keep} kept, ${totals.cast} cast, ${totals.remove} removed`,
    ],
  ];
  if (overall !== null) {
    list.push([
      `SQNR ${sqnrPhrase(overall.sqnrDb)}`,
      `of all weights together; relative error ${formatPercent(overall.relativeError)}`,
    ]);
    list.push([`${low} below ${thresholdDb} dB`, "layers that deserve a look"]);
  }
  if (output !== null) {
    const value = output.w8a8 ?? output.w8a16;
    const inputs = output.w8a8 === null ? "inputs as they are" : "inputs in INT8";
    list.push([
      `${formatPercent(value)} output error`,
      `${inputs}; ${output.on}, ${output.layers} layers`,
    ]);
  }
  list.push([
    calibration === null ? "no calibration" : "calibrated",
    calibration ?? "errors of outputs were not measured",
  ]);
  list.push([formatSeconds(result.elapsedMs), `${result.workers} workers on the CPU`]);
  return list.map(([figure, words], i) =>
    `<div class="card"><b>${escaped(figure)}</b><span>${escaped(words)}</span>${
      i === 0
        ? `<div class="size"><i style="width:${(100 * Math.min(1, share)).toFixed(1)}%"></i></div>`
        : ""
    }</div>`
  );
}

function sections(result: ConvertResult, { histograms, thresholdDb }: ReportFacts): string[] {
  if (result.layers.length === 0) {
    return ["<p>No layer was quantized: there is no error to show.</p>"];
  }
  const worst = worstFirst(result.layers).slice(0, TABLE_ROWS);
  const measured = overallOutput(result.layers) !== null;
  return [
    `<h2>Error of every layer</h2>
<p>‖W − Ŵ‖ / ‖W‖, in the order of the file; drag to zoom, double-click to zoom out.</p>
<div class="chart" id="errors"></div>`,
    `<h2>Worst layers</h2>
<div class="scroll"><table>
<tr><th>layer</th><th>stored as</th><th>shape</th>${
      PAGE_TITLES.map((title) => `<th>${title}</th>`).join("")
    }${measured ? "<th>output</th><th>output, INT8 inputs</th>" : ""}</tr>
${worst.map((layer) => row(layer, result, { thresholdDb, measured })).join("\n")}
</table></div>`,
    ...(histograms.length === 0 ? [] : [
      `<h2>Codes</h2>
<p>How often each INT8 code is used. A narrow peak means that a few large weights set the scale.</p>
<div class="histograms">
${
        histograms.map(({ name }, i) =>
          `<div class="chart" id="histogram${i}"><h3>${escaped(name)}</h3></div>`
        ).join("\n")
      }
</div>`,
    ]),
  ];
}

function row(
  layer: LayerResult,
  { plan }: ConvertResult,
  { thresholdDb, measured }: { thresholdDb: number; measured: boolean },
): string {
  const { name, shape, errors, output, compensated } = layer;
  const scheme = plan.tensors.find(({ source }) => source.name === name)?.scheme;
  const convrot = scheme?.convrotGroupSize, rows = compensated?.toNearest ?? 0;
  const stored = [
    scheme?.scaling.kind ?? "",
    ...(convrot === null || convrot === undefined ? [] : [`convrot ${convrot}`]),
    scheme?.method ?? "",
    ...(rows === 0 ? [] : [`${rows} rows to nearest`]),
  ].join(", ");
  const cells = [
    name,
    stored,
    shape.join(" × "),
    ...statisticCells(errors, "page"),
    ...(measured ? [output?.w8a16, output?.w8a8].map(percentOrNone) : []),
  ];
  return `<tr${isLow(layer, thresholdDb) ? ' class="low"' : ""}>${
    cells.map((cell) => `<td>${escaped(cell)}</td>`).join("")
  }</tr>`;
}

function isLow({ errors }: LayerResult, thresholdDb: number): boolean {
  return errors.sqnrDb !== null && errors.sqnrDb < thresholdDb;
}

function percentOrNone(ratio: number | null | undefined): string {
  return ratio === null || ratio === undefined ? "–" : formatPercent(ratio);
}

function nameOf(path: string): string {
  return path.split(/[\\/]/).at(-1) ?? path;
}

/** Names come from files of strangers. */
function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

/** A script must not hold what ends it. In JSON and in strings `\u003c` is the same as `<`. */
function asScript(text: string): string {
  return text.replaceAll(/<(?=\/script|!--)/gi, "\\u003c");
}
