/** What `--fit` and `--max-error` chose from: sizes against errors, as a picture and a table. Pure. */

import type { fitJson } from "../fit_report.ts";
import { formatBytes, formatPercent } from "../format.ts";
import { escaped, tableOf } from "./page_shell.ts";

/** A choice as the report has it. */
export type FitJson = NonNullable<ReturnType<typeof fitJson>>;

interface Point {
  readonly bytes: number;
  readonly error: number;
}

/** Size of the picture and its margins, in pixels. */
const WIDTH = 720, HEIGHT = 260, LEFT = 64, RIGHT = 150, EDGE = 28;

/** Returns the part of the page; nothing if no format was chosen. */
export function frontierPart(fit: FitJson | undefined): string[] {
  if (fit === undefined) return [];
  const frontier = fit["frontier"] as readonly Point[];
  const single = fit["single_formats"] as readonly (Point & { readonly format: string })[];
  const chosen = { bytes: fit["bytes"] as number, error: fit["error"] as number };
  const rows = [
    ...frontier.map((point) => ["best choice", point] as const),
    ...single.map((point) => [`all layers ${point.format}`, point] as const),
    ["this file", chosen] as const,
  ].sort(([, a], [, b]) => a.bytes - b.bytes);
  return [
    `<h2>Size against error</h2>`,
    picture(frontier, single, chosen),
    tableOf(
      ["choice", "size", "error"],
      rows.map(([what, { bytes, error }]) => ({
        cells: [what, { number: formatBytes(bytes) }, { number: formatPercent(error) }],
      })),
    ),
  ];
}

function picture(
  frontier: readonly Point[],
  single: readonly (Point & { readonly format: string })[],
  chosen: Point,
): string {
  const all = [...frontier, ...single, chosen];
  const largest = Math.max(...all.map(({ bytes }) => bytes));
  const smallest = Math.min(...all.map(({ bytes }) => bytes));
  const most = Math.max(...all.map(({ error }) => error)) || 1;
  const x = ({ bytes }: Point) =>
    LEFT + (WIDTH - LEFT - RIGHT) * (bytes - smallest) / Math.max(1, largest - smallest);
  const y = ({ error }: Point) => HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * error / most;
  const at = (point: Point) => `${x(point).toFixed(1)},${y(point).toFixed(1)}`;
  const dot = (point: Point, label: string, color: string) =>
    `<circle cx="${x(point).toFixed(1)}" cy="${y(point).toFixed(1)}" r="4" fill="${color}"/>` +
    `<text x="${(x(point) + 7).toFixed(1)}" y="${
      (y(point) - 5).toFixed(1)
    }" font-size="12" fill="currentColor">${escaped(label)}</text>`;
  const end = HEIGHT - EDGE;
  return [
    `<svg class="frontier" role="img" aria-label="Size against error" viewBox="0 0 ${WIDTH} ${HEIGHT}">`,
    `<path d="M${LEFT},${EDGE}V${end}H${WIDTH - RIGHT}" fill="none" stroke="currentColor"/>`,
    `<text x="4" y="${EDGE}" font-size="12" fill="currentColor">${formatPercent(most)}</text>`,
    `<text x="${LEFT}" y="${HEIGHT - 8}" font-size="12" fill="currentColor">${
      formatBytes(smallest)
    }</text>`,
    `<text x="${WIDTH - RIGHT}" y="${HEIGHT - 8}" font-size="12" fill="currentColor">${
      formatBytes(largest)
    }</text>`,
    `<polyline points="${
      frontier.map(at).join(" ")
    }" fill="none" stroke="#3b82f6" stroke-width="2"/>`,
    ...single.map((point) => dot(point, point.format, "#9ca3af")),
    dot(chosen, "this file", "#dc2626"),
    `</svg>`,
  ].join("\n");
}
