/**
 * The results of single layers, summed up: those rounded to nearest despite their data, as a whole
 * or in single rows, and which needed more damping than they were given.
 */

import { describeReport } from "../quant/learned/report.ts";
import { countText } from "../core/count_text.ts";
import type { CompensatedNote, Note } from "./note.ts";
import type { QuantizeTask } from "./tasks.ts";

/** Rows of a layer whose errors were compensated. */
export interface CompensatedRows {
  /** Those that were rounded to nearest, as compensation made their outputs no better. */
  readonly toNearest: number;
  /** All; of a layer that is stored transformed, its padded rows. */
  readonly all: number;
}

/** Names in one sentence. */
const NAMES_MAX = 5;

/** Returns one sentence per reason that layers fell back for, and one on raised damping, if any. */
export function fallbackNotes(
  layers: readonly { readonly name: string; readonly note: Note | null }[],
): string[] {
  const byReason = new Map<string, string[]>();
  const raised: string[] = [];
  for (const { name, note } of layers) {
    if (note?.kind === "compensated" && note.dampingRaised) raised.push(name);
    if (note?.kind !== "fallback") continue;
    byReason.set(note.reason, [...byReason.get(note.reason) ?? [], name]);
  }
  const notes = [...byReason].map(([reason, names]) =>
    `${counted(names)} rounded to nearest in spite of calibration data, because ${reason}: ${
      listed(names)
    }`
  );
  if (raised.length > 0) {
    notes.push(
      `${counted(raised)} compensated with more damping, because the Hessian is not positive ` +
        `semidefinite: ${listed(raised)}`,
    );
  }
  return notes;
}

/** Returns the rows of the layer of `task`; null if no errors were compensated, whatever was asked for. */
export function compensatedRows(
  { compensation, learned, transform, source }: QuantizeTask,
  note: Note | null,
  { rowsToNearest }: { readonly rowsToNearest: number },
): CompensatedRows | null {
  const isCompensated = compensation !== null && learned === undefined &&
    note?.kind !== "fallback";
  return isCompensated ? { toNearest: rowsToNearest, all: (transform ?? source).rows } : null;
}

/** Returns what the method did with a layer, with the rows that it did not help; null: it did nothing. */
export function describeNote(note: Note | null, rows: CompensatedRows | null): string | null {
  if (note === null) return null;
  const text = wordsOf(note);
  return rows === null || rows.toNearest === 0 ? text : `${text}; ${rowsToNearest(rows)}`;
}

function wordsOf(note: Note): string {
  switch (note.kind) {
    case "compensated":
      return compensationWords(note);
    case "fallback":
      return `rounded to nearest: ${note.reason}`;
    case "transformed":
      return "quip, stored transformed, rounded to nearest";
    case "learned":
      return describeReport(note.report);
  }
}

const MANNERS: Readonly<Record<CompensatedNote["manner"], string>> = {
  gptq: "gptq",
  guardedQuip: "quip, within the weight error of rounding to nearest,",
  transformedQuip: "quip, stored transformed,",
};

function compensationWords(note: CompensatedNote): string {
  const { manner, statistic, directions, damping, dampingRaised, segments } = note;
  const source = directions === null
    ? statistic
    : statistic === "lora"
    ? `${directions} LoRA directions`
    : `${statistic} and ${directions} LoRA directions`;
  return [
    `${MANNERS[manner]} from ${source}`,
    `${dampingRaised ? "damping raised to" : "damping"} ${damping}`,
    ...(segments > 1 ? [`in ${segments} segments`] : []),
    ...(note.deadChannels > 0 ? [`${note.deadChannels} dead channels`] : []),
    ...(note.inRowSpace ? ["in the space of the rows"] : []),
    ...(note.experts === undefined ? [] : [
      `${note.experts.compensated} of ${note.experts.all} experts by data of their own or the bank's`,
    ]),
  ].join(", ");
}

/**
 * Returns one sentence on the rows of all layers that were rounded to nearest in spite of data, with the
 * layers that are so for the most part; null: there are none.
 */
export function rowsNote(
  layers: readonly { readonly name: string; readonly compensated: CompensatedRows | null }[],
): string | null {
  let toNearest = 0, all = 0;
  const mostly: string[] = [];
  for (const { name, compensated } of layers) {
    if (compensated === null) continue;
    toNearest += compensated.toNearest;
    all += compensated.all;
    if (compensated.toNearest > compensated.all / 2) mostly.push(name);
  }
  if (toNearest === 0) return null;
  const names = mostly.length === 0 ? "" : ` (most rows of ${listed(mostly)})`;
  return `${rowsToNearest({ toNearest, all })}: the data gave no clear gain there${names}`;
}

function rowsToNearest({ toNearest, all }: CompensatedRows): string {
  const [some, of] = [toNearest, all].map(countText);
  return `${some} of ${of} ${all === 1 ? "row" : "rows"} rounded to nearest`;
}

function counted(names: readonly string[]): string {
  return `${names.length} ${names.length === 1 ? "layer was" : "layers were"}`;
}

function listed(names: readonly string[]): string {
  const rest = names.length - NAMES_MAX;
  return names.slice(0, NAMES_MAX).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}
