/** The results of a batch as a table. */

import { formatBytes, formatSeconds, visible } from "./format.ts";

/** The result of one model. */
export interface FileOutcome {
  readonly input: string;
  readonly outcome: "converted" | "skipped" | "failed" | "interrupted" | "not begun";
  readonly output: string | null;
  /** Why it was skipped or failed; null if it was converted. */
  readonly reason: string | null;
  readonly outputBytes: number | null;
  /** SQNR of all quantized weights together; null if nothing was quantized. */
  readonly sqnrDb: number | null;
  readonly elapsedMs: number | null;
}

/** Returns the table, one line per model in the order of `outcomes`, and one that counts. */
export function batchTable(outcomes: readonly FileOutcome[]): string[] {
  const header = ["outcome", "size", "SQNR dB", "time", "model"];
  const rows = outcomes.map((file) => [
    file.outcome,
    file.outputBytes === null ? "" : formatBytes(file.outputBytes),
    file.sqnrDb === null ? "" : file.sqnrDb.toFixed(2),
    file.elapsedMs === null ? "" : formatSeconds(file.elapsedMs),
    visible(lastColumn(file)),
  ]);
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((r) => r[i]!.length)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) =>
      i === 0 || i === cells.length - 1 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)
    ).join("  ").trimEnd();
  return [line(header), ...rows.map(line), countLine(outcomes)];
}

/** Returns how many models have each outcome, by its name with `_` for blanks. */
export function countOutcomes(outcomes: readonly FileOutcome[]): Record<string, number> {
  const names = ["converted", "skipped", "failed", "interrupted", "not begun"] as const;
  return Object.fromEntries(names.map((name) => [
    name.replace(" ", "_"),
    outcomes.filter(({ outcome }) => outcome === name).length,
  ]));
}

function lastColumn({ input, output, reason }: FileOutcome): string {
  if (reason !== null) return `${input}: ${reason}`;
  return output === null ? input : `${input} -> ${output}`;
}

function countLine(outcomes: readonly FileOutcome[]): string {
  const parts = Object.entries(countOutcomes(outcomes)).filter(([name, count]) =>
    count > 0 || name === "converted"
  );
  return `${outcomes.length} ${outcomes.length === 1 ? "model" : "models"}: ${
    parts.map(([name, count]) => `${count} ${name.replace("_", " ")}`).join(", ")
  }`;
}
