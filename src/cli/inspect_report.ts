/** The contents of a model as lines for people. */

import { countText } from "../core/count_text.ts";
import type { Inspection } from "../convert/inspect.ts";
import { formatBytes, visible } from "./format.ts";

/** Values of metadata are shown up to this many characters. */
const METADATA_WIDTH = 60;

/** Files and problems are listed up to this many. */
const LISTED = 5;

/** Returns the lines of `inspect`. */
export function inspectionLines(inspection: Inspection): string[] {
  const { files, tensors, parameters, explanation } = inspection;
  const facts = [
    [
      "size",
      `${formatBytes(inspection.fileBytes)}${files.length > 1 ? ` in ${files.length} files` : ""}`,
    ],
    ["tensors", `${tensors}, ${formatCount(parameters)} parameters`],
    ["model", explanation],
    ["quantized", quantizedText(inspection)],
  ] as const;
  return [
    visible(inspection.path),
    ...facts.map(([title, text]) => `  ${title.padEnd(10)} ${text}`),
    ...problemLines(inspection),
    "",
    ...dtypeTable(inspection),
    ...largestLines(inspection),
    ...metadataLines(inspection),
  ];
}

/** Returns `9.08 billion`, `812 million`, `45,120`. */
export function formatCount(count: number): string {
  const units = [[1e12, "trillion"], [1e9, "billion"], [1e6, "million"]] as const;
  for (const [size, word] of units) {
    if (count >= size) return `${Number((count / size).toPrecision(3))} ${word}`;
  }
  return countText(count);
}

function quantizedText({ quantized, convrotGroups }: Inspection): string {
  const formats = Object.entries(quantized).map(([format, count]) => `${count} ${visible(format)}`);
  if (formats.length === 0) return "no";
  const rotated = Object.entries(convrotGroups).map(([size, count]) =>
    `${count} rotated in groups of ${size}`
  );
  return `${formats.join(", ")} layers${rotated.length === 0 ? "" : ` (${rotated.join(", ")})`}`;
}

function problemLines({ markerProblems }: Inspection): string[] {
  if (markerProblems.length === 0) return [];
  const more = markerProblems.length - LISTED;
  return [
    "",
    "  markers and layers with problems (`quantsmith verify` says what they do)",
    ...markerProblems.slice(0, LISTED).map((problem) => `    ${visible(problem)}`),
    ...(more > 0 ? [`    and ${more} more`] : []),
  ];
}

function dtypeTable({ dtypes, dtypeBytes }: Inspection): string[] {
  const rows = Object.entries(dtypes).map(([dtype, count]) => [
    dtype,
    String(count),
    formatBytes(dtypeBytes[dtype]!),
  ]);
  return table([["dtype", "tensors", "size"], ...rows], ["left", "right", "right"]);
}

function largestLines({ largest }: Inspection): string[] {
  if (largest.length === 0) return [];
  const rows = largest.map(({ name, dtype, shape, byteLength }) => [
    formatBytes(byteLength),
    `${dtype} [${shape.join(", ")}]`,
    visible(name),
  ]);
  return ["", "  largest tensors", ...table(rows, ["right", "left", "left"])];
}

function metadataLines({ metadata }: Inspection): string[] {
  const rows = Object.entries(metadata).map(([key, value]) => {
    const shown = visible(value.slice(0, METADATA_WIDTH));
    return [visible(key), value.length > METADATA_WIDTH ? `${shown}... (${value.length})` : shown];
  });
  return rows.length === 0 ? [] : ["", "  metadata", ...table(rows, ["left", "left"])];
}

function table(rows: readonly string[][], sides: readonly ("left" | "right")[]): string[] {
  const widths = sides.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => {
    const cells = row.map((cell, column) =>
      sides[column] === "left" ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)
    );
    return `    ${cells.join("  ")}`.trimEnd();
  });
}
