/**
 * `--report FILE.html`: what a conversion did, for people. One page that needs nothing from the
 * network: its policy forbids any request, charts (uPlot) and data stand inside.
 */

import { layerName } from "../../core/layer_name.ts";
import { groupBy } from "../../core/group_by.ts";
import { formatBytes, formatPercent, formatSeconds } from "../format.ts";
import { errorsOfJson } from "../errors_json.ts";
import { formatSqnr, PAGE_TITLES, statisticCells } from "../statistic_columns.ts";
import { type Measure, MEASURE_NAMES } from "../verdict.ts";
import { byKind, inModelOrder, median } from "./layer_order.ts";
import type { Histogram } from "./code_histogram.ts";
import { frontierPart } from "./frontier_part.ts";
import { escaped, fileName, pageOf, tableOf } from "./page_shell.ts";
import type { KeptJson, LayerJson, ReportJson } from "./report_data.ts";

/** Rows of the table of the worst layers. */
const WORST_ROWS = 25;

/** Returns the layers whose histograms are shown if none are asked for: the worst six. */
export function shownByDefault({ layers }: Pick<ReportJson, "layers">): string[] {
  return layers.slice(0, 6).map(({ name }) => name);
}

/** Returns the page. */
export function htmlReport(report: ReportJson, histograms: readonly Histogram[]): string {
  const measure = report.verdict?.measure ?? "weights";
  const layers = inModelOrder(report.layers);
  return pageOf({
    title: `${fileName(report.output)}: quality`,
    body: [
      `<h1>${escaped(fileName(report.output))}</h1>`,
      `<p>from ${escaped(report.input)} · ${escaped(report.model)}</p>`,
      verdictPart(report),
      `<div class="cards">\n${cards(report).join("\n")}\n</div>`,
      ...layerParts(report, measure),
      ...frontierPart(report.fit),
      ...histogramPart(histograms),
      ...keptPart(report.kept),
      madePart(report),
    ].join("\n"),
    data: {
      layers: layers.length === 0 ? null : {
        names: layers.map(({ name }) => layerName(name)),
        series: [
          {
            label: MEASURE_NAMES[measure],
            errors: layers.map((layer) => errorIn(layer, measure)),
          },
          ...baselineSeries(layers, measure),
        ],
        lines: linesOf(report, measure),
      },
      histograms,
    },
  });
}

/** Returns a layer's error by a measure; null if it was not measured. */
export function errorIn({ errors, output }: LayerJson, measure: Measure): number | null {
  return measure === "weights" ? errors.relative_error : output?.[measure] ?? null;
}

/** Returns what plain rows would have given by the measure of the verdict; null if that is not known. */
function plainErrorOf({ verdict }: Pick<ReportJson, "verdict">): number | null {
  if (verdict === null || verdict.plain_rows === null || verdict.measure === "w8a16") return null;
  return verdict.measure === "w8a8" ? verdict.plain_rows.w8a8 : verdict.plain_rows.relative_error;
}

/** What every layer would have had otherwise, if its outputs were measured. */
function baselineSeries(layers: readonly LayerJson[], measure: Measure) {
  if (measure !== "w8a8" || layers.every(({ plain_w8a8 }) => plain_w8a8 === undefined)) return [];
  return [
    { label: BY_DEFAULT, errors: layers.map(({ default_w8a8 }) => default_w8a8 ?? null) },
    { label: "plain rows (estimate)", errors: layers.map(({ plain_w8a8 }) => plain_w8a8 ?? null) },
  ];
}

const BY_DEFAULT = "the default without data (estimate)";

function linesOf(report: ReportJson, measure: Measure): { label: string; error: number }[] {
  const hasSeries = report.layers.some(({ plain_w8a8 }) => plain_w8a8 !== undefined);
  const plain = hasSeries ? null : plainErrorOf(report);
  return [
    ...(plain === null ? [] : [{ label: "plain rows, all layers", error: plain }]),
    ...(measure === "weights"
      // The error at which the SQNR is that of the threshold.
      ? [{ label: `${report.threshold_db} dB`, error: 10 ** (-report.threshold_db / 20) }]
      : []),
  ];
}

function verdictPart(report: ReportJson): string {
  const { verdict } = report;
  if (verdict === null) {
    return `<p class="verdict">No layer was quantized: there is no error to show.</p>`;
  }
  const plain = plainErrorOf(report);
  const on = verdict.measure === "weights" ? "" : `, measured on ${report.overall_output?.on}`;
  const byDefault = verdict.measure === "w8a8" ? verdict.default_w8a8 : null;
  const most = Math.max(verdict.error, plain ?? 0, byDefault ?? 0);
  const bars = plain === null ? [] : [
    bar("this file", verdict.error, most),
    ...(byDefault === null ? [] : [bar(BY_DEFAULT, byDefault, most)]),
    bar("plain rows", plain, most),
  ];
  return `<div class="verdict ${verdict.grade}">
<b>${escaped(verdict.grade)}</b>
<span>${escaped(`${MEASURE_NAMES[verdict.measure]} ${formatPercent(verdict.error)}${on}`)}${
    byDefault === null
      ? ""
      : escaped(`; the default without data would have given ${formatPercent(byDefault)}`)
  }${
    plain === null ? "" : escaped(
      `; plain rows would have given ${formatPercent(plain)}, ${
        (plain / verdict.error).toPrecision(2)
      } times as much`,
    )
  }</span>
${bars.join("\n")}
</div>`;
}

function bar(label: string, error: number, most: number): string {
  const width = Math.min(100, (100 * error) / most).toFixed(1);
  return `<div class="bar"><span>${escaped(label)}</span>` +
    `<div class="size"><i style="width:${width}%"></i></div>` +
    `<span>${escaped(formatPercent(error))}</span></div>`;
}

/** `; 8.03 bits per weight` of all quantized layers together; empty: not known. */
function bitsPerWeight({ layers }: Pick<ReportJson, "layers">): string {
  let bits = 0, weights = 0;
  for (const { shape, bits_per_weight: each } of layers) {
    if (each === undefined) return "";
    const count = shape.reduce((product, size) => product * size, 1);
    bits += each * count;
    weights += count;
  }
  return weights === 0 ? "" : `; ${(bits / weights).toFixed(2)} bits per weight`;
}

function cards(report: ReportJson): string[] {
  const { verdict, input_bytes: before, output_bytes: after, overall } = report;
  const share = before === 0 ? 1 : after / before;
  const low = report.layers.filter((layer) => isLow(layer, report.threshold_db)).length;
  const list: [string, string][] = [
    [
      `${formatBytes(before)} → ${formatBytes(after)}`,
      `${formatBytes(Math.max(0, before - after))} saved, ${
        (100 * share).toFixed(0)
      } % of the size before`,
    ],
    [
      `${report.layers.length} quantized`,
      `${report.kept.length} kept, cast or removed${bitsPerWeight(report)}`,
    ],
  ];
  if (verdict !== null) {
    list.push([
      `worst ${formatPercent(verdict.worst_error)}`,
      layerName(verdict.worst_layer),
    ]);
  }
  if (overall !== null) {
    list.push([
      `SQNR ${formatSqnr(overall.sqnr_db)} dB`.replace("exact dB", "exact"),
      `of all weights; ${low} ${low === 1 ? "layer" : "layers"} below ${report.threshold_db} dB`,
    ]);
  }
  list.push([
    report.calibration === null ? "no calibration data" : "calibrated",
    report.calibration ?? "output errors were not measured",
  ]);
  list.push([
    formatSeconds(report.elapsed_ms),
    `${formatBytes((1000 * before) / Math.max(1, report.elapsed_ms))}/s of input, ${
      report.gpu ?? `${report.workers} workers on the CPU`
    }`,
  ]);
  return list.map(([figure, words]) =>
    `<div class="card"><b>${escaped(figure)}</b><span>${escaped(words)}</span></div>`
  );
}

function layerParts(report: ReportJson, measure: Measure): string[] {
  const { layers } = report;
  if (layers.length === 0) return [];
  const hidden = layers.length - WORST_ROWS;
  return [
    `<h2>Every layer</h2>
<p>${
      escaped(MEASURE_NAMES[measure])
    } on a logarithmic axis, in the order of the model. Drag to zoom, double-click to zoom out.</p>
<div class="chart" id="layers"></div>`,
    kindPart(report, measure),
    `<h2>Worst layers</h2>`,
    tableOf(
      [
        "layer",
        ...(measure === "weights" ? [] : [{ number: MEASURE_NAMES[measure] }]),
        { number: "share of all errors" },
        ...PAGE_TITLES.map((number) => ({ number })),
        "stored as",
        "shape",
      ],
      layers.slice(0, WORST_ROWS).map((layer) => ({
        cells: [
          layerName(layer.name),
          ...(measure === "weights" ? [] : [{ number: percentOrNone(errorIn(layer, measure)) }]),
          { number: formatPercent(layer.share) },
          ...statisticCells(errorsOfJson(layer.errors), "page").map((number) => ({ number })),
          layer.stored,
          layer.shape.join(" × "),
        ],
        isLow: isLow(layer, report.threshold_db),
      })),
    ),
    ...(hidden > 0 ? [`<p>${hidden} more layers are better than these.</p>`] : []),
  ];
}

/** Layers of one kind, in all blocks, on a line. */
function kindPart({ layers }: ReportJson, measure: Measure): string {
  const rows = [...byKind(layers)].map(([kind, members]) => {
    const errors = members.map((layer) => errorIn(layer, measure) ?? NaN);
    const worst = members.reduce((a, b) =>
      (errorIn(b, measure) ?? -1) > (errorIn(a, measure) ?? -1) ? b : a
    );
    return {
      share: members.reduce((sum, layer) => sum + layer.share, 0),
      cells: [
        kind,
        { number: String(members.length) },
        { number: formatPercent(median(errors)) },
        { number: percentOrNone(errorIn(worst, measure)) },
        layerName(worst.name),
      ],
    };
  }).sort((a, b) => b.share - a.share);
  return `<h2>Kinds of layers</h2>
<p>The same layer of all blocks together; N is the number of the block.</p>
${
    tableOf(
      ["kind", { number: "layers" }, { number: "share of all errors" }, { number: "median" }, {
        number: "worst",
      }, "worst layer"],
      rows.map(({ share, cells: [kind, count, ...rest] }) => ({
        cells: [kind!, count!, { number: formatPercent(share) }, ...rest],
      })),
    )
  }`;
}

function histogramPart(histograms: readonly Histogram[]): string[] {
  if (histograms.length === 0) return [];
  const charts = histograms.map(({ name }, i) =>
    `<div class="chart" id="histogram${i}"><h3>${escaped(name)}</h3></div>`
  );
  return [`<h2>Codes</h2>
<p>How often each INT8 code is used. A narrow peak means that a few large weights set the scale.</p>
<div class="histograms">
${charts.join("\n")}
</div>`];
}

/** Tensors that were kept, by why; vectors are counted, matrices are listed in groups. */
function keptPart(kept: readonly KeptJson[]): string[] {
  if (kept.length === 0) return [];
  const reasons = groupBy(kept, ({ action, reason }) => `${action}: ${reason}`);
  const rows = [...reasons].map(([reason, tensors]) => {
    const names = [...byKind(tensors).keys()];
    const shown = names.slice(0, 3).join(", ");
    return {
      cells: [
        reason,
        { number: String(tensors.length) },
        { number: formatBytes(tensors.reduce((sum, { bytes }) => sum + bytes, 0)) },
        { wide: names.length > 3 ? `${shown} and ${names.length - 3} more` : shown },
      ],
    };
  });
  return [
    `<h2>Kept layers</h2>`,
    tableOf(["why", { number: "tensors" }, { number: "size" }, "names"], rows),
  ];
}

function madePart(report: ReportJson): string {
  const facts = [
    ...(report.command.length === 0
      ? []
      : [["command", `quantsmith ${report.command.map(quoted).join(" ")}`]]),
    ["method", report.method],
    ["next", report.next_step],
    ["program", report.program],
    ["date", report.created.replace("T", " ").replace(/\.\d+Z$/, " UTC")],
  ];
  return `<h2>How it was made</h2>
<dl>
${facts.map(([term, text]) => `<dt>${escaped(term!)}</dt><dd>${escaped(text!)}</dd>`).join("\n")}
</dl>
<p>The same input and options give the same file.</p>`;
}

function quoted(word: string): string {
  return /^[\w./:=@%+,-]+$/.test(word) ? word : `"${word}"`;
}

function isLow({ errors }: LayerJson, thresholdDb: number): boolean {
  return errors.sqnr_db !== null && errors.sqnr_db < thresholdDb;
}

function percentOrNone(ratio: number | null): string {
  return ratio === null ? "–" : formatPercent(ratio);
}
