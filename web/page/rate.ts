/** Rate and remaining time of a conversion. Pure. */

import { formatBytes, formatEta } from "../../src/cli/format.ts";

/** Returns `1.2 GB of 4.1 GB, 310 MB/s, 9 s left`. */
export function rateLine(
  { doneBytes, totalBytes }: { readonly doneBytes: number; readonly totalBytes: number },
  elapsedMs: number,
): string {
  const done = `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
  if (doneBytes === 0 || elapsedMs <= 0) return done;
  const perMs = doneBytes / elapsedMs;
  const left = formatEta((totalBytes - doneBytes) / perMs);
  return `${done}, ${formatBytes(1000 * perMs)}/s, ${left} left`;
}

/** Returns the last ten percent that were reached, for screen readers; null: none since `said`. */
export function spokenStep(share: number, said: number): number | null {
  const step = Math.floor(share * 10) * 10;
  return step > said && step < 100 ? step : null;
}
