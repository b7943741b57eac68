/**
 * What became of single layers, summed up: which were rounded to nearest in spite of their data, as a whole
 * or in single rows, and which needed more damping than they were given.
 */

import type { QuantizeTask } from "./tasks.ts";

/** How the note of a layer begins that was rounded to nearest in spite of its data; the reason follows. */
export const ROUNDED_TO_NEAREST = "rounded to nearest: ";

/** In the note of a layer that needed more damping than it was given. */
export const DAMPING_RAISED = "damping raised to";

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
  layers: readonly { readonly name: string; readonly note: string | null }[],
): string[] {
  const byReason = new Map<string, string[]>();
  const raised: string[] = [];
  for (const { name, note } of layers) {
    if (note === null) continue;
    if (note.includes(DAMPING_RAISED)) raised.push(name);
    if (!note.startsWith(ROUNDED_TO_NEAREST)) continue;
    const reason = note.slice(ROUNDED_TO_NEAREST.length);
    byReason.set(reason, [...byReason.get(reason) ?? [], name]);
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

/** Returns the rows of the layer of `task`; null where no errors were compensated, whatever was asked for. */
export function compensatedRows(
  { compensation, learned, transform, source }: QuantizeTask,
  note: string | null,
  { rowsToNearest }: { readonly rowsToNearest: number },
): CompensatedRows | null {
  const isCompensated = compensation !== null && learned === undefined &&
    !note?.startsWith(ROUNDED_TO_NEAREST);
  return isCompensated ? { toNearest: rowsToNearest, all: (transform ?? source).rows } : null;
}

/** Returns what the method did with a layer, with the rows that it was of no use for; null: it did nothing. */
export function noteWithRows(text: string | null, rows: CompensatedRows | null): string | null {
  return text === null || rows === null || rows.toNearest === 0
    ? text
    : `${text}; ${rowsToNearest(rows)}`;
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
  const [some, of] = [toNearest, all].map((count) => count.toLocaleString("en-US"));
  return `${some} of ${of} ${all === 1 ? "row" : "rows"} rounded to nearest`;
}

function counted(names: readonly string[]): string {
  return `${names.length} ${names.length === 1 ? "layer was" : "layers were"}`;
}

function listed(names: readonly string[]): string {
  const rest = names.length - NAMES_MAX;
  return names.slice(0, NAMES_MAX).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}
