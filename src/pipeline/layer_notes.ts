/**
 * What became of single layers, summed up: which were rounded to nearest in spite of their data, and which
 * needed more damping than they were given.
 */

/** How the note of a layer begins that was rounded to nearest in spite of its data; the reason follows. */
export const ROUNDED_TO_NEAREST = "rounded to nearest: ";

/** In the note of a layer that needed more damping than it was given. */
export const DAMPING_RAISED = "damping raised to";

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

function counted(names: readonly string[]): string {
  return `${names.length} ${names.length === 1 ? "layer was" : "layers were"}`;
}

function listed(names: readonly string[]): string {
  const rest = names.length - NAMES_MAX;
  return names.slice(0, NAMES_MAX).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}
