/** Which models of a batch one job of an array takes. */

import { statSync } from "node:fs";
import type { Part } from "../convert/parts/part.ts";

/**
 * Returns the models of a part, in their order: the largest are dealt out first, each to the part with the
 * least so far. The same on every machine that sees the same files.
 */
export function filesOfPart(files: readonly string[], { index, count }: Part): string[] {
  const sizes = files.map((file) => [file, sizeOf(file)] as const);
  const loads = new Array<number>(count).fill(0);
  const own = new Set<string>();
  // Array.prototype.sort is stable: equal sizes stay in the order given.
  for (const [file, size] of [...sizes].sort(([, a], [, b]) => b - a)) {
    const least = loads.indexOf(Math.min(...loads));
    loads[least]! += Math.max(1, size);
    if (least + 1 === index) own.add(file);
  }
  return files.filter((file) => own.has(file));
}

/** Bytes of a file; 0 for addresses and folders, which are shared out by number. */
function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}
