/** The shell of every report page: one file that asks the network for nothing. */

import chartScript from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import chartStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import pageStyle from "./page.css" with { type: "text" };
import pageScript from "./page.js" with { type: "text" };

/** The parts of a page. */
export interface PageParts {
  readonly title: string;
  /** HTML of the body, without charts' scripts. */
  readonly body: string;
  /** Data of the charts that `page.js` draws. */
  readonly data: ChartData;
}

/** The charts of a page. */
export interface ChartData {
  /** Layers in the order of the model, one series per file; null: nothing to draw. */
  readonly layers: {
    readonly names: readonly string[];
    /** Relative errors, one array per series; null if a file lacks the layer. */
    readonly series: readonly {
      readonly label: string;
      readonly errors: readonly (number | null)[];
    }[];
    /** Horizontal lines: an error and what it is. */
    readonly lines: readonly { readonly label: string; readonly error: number }[];
  } | null;
  /** How often each code -127..127 occurs. */
  readonly histograms: readonly { readonly name: string; readonly counts: readonly number[] }[];
}

/** Returns the page as HTML. */
export function pageOf({ title, body, data }: PageParts): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
<title>${escaped(title)}</title>
<style>${chartStyle}\n${pageStyle}</style>
</head>
<body>
${body}
<script type="application/json" id="data">${asScript(JSON.stringify(data))}</script>
${chartScripts().map((script) => `<script>${script}</script>`).join("\n")}
</body>
</html>
`;
}

/** The scripts of every page, as they stand in it: who shows pages in a page allows these and no others. */
export function chartScripts(): string[] {
  return [chartScript, pageScript].map(asScript);
}

/** Returns text as HTML. Names come from files of strangers. */
export function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

/** Returns the last part of a path. */
export function fileName(path: string): string {
  return path.split(/[\\/]/).at(-1) ?? path;
}

/** A table cell: text on one line, a number, which is aligned to the right, or text that may wrap. */
export type Cell = string | { readonly number: string } | { readonly wide: string };

/** Returns a table that scrolls if it does not fit. */
export function tableOf(
  header: readonly Cell[],
  rows: readonly { readonly cells: readonly Cell[]; readonly isLow?: boolean }[],
): string {
  const cell = (tag: "th" | "td") => (value: Cell) =>
    typeof value === "string"
      ? `<${tag}>${escaped(value)}</${tag}>`
      : "number" in value
      ? `<${tag} class="number">${escaped(value.number)}</${tag}>`
      : `<${tag} class="wide">${escaped(value.wide)}</${tag}>`;
  const body = rows.map(({ cells, isLow = false }) =>
    `<tr${isLow ? ' class="low"' : ""}>${cells.map(cell("td")).join("")}</tr>`
  );
  return `<div class="scroll"><table>
<thead><tr>${header.map(cell("th")).join("")}</tr></thead>
<tbody>
${body.join("\n")}
</tbody></table></div>`;
}

/** A script must not hold what ends it. In JSON and in strings `\u003c` is the same as `<`. */
function asScript(text: string): string {
  return text.replaceAll(/<(?=\/script|!--)/gi, "\\u003c");
}
