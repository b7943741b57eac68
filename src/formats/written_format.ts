/** Which format a conversion writes, and how: asked of the formats themselves. */

import type { GridOutput } from "./outputs.ts";
import type { FormatWriter, GridWriter, WrittenScales } from "./format.ts";
import { FORMATS } from "./registry.ts";

/**
 * Returns the format that holds weights with such scales.
 *
 * @throws TypeError if none does.
 */
export function formatFor(scales: WrittenScales): string {
  const found = FORMATS.find(({ write }) => write?.holds(scales) === true);
  if (found === undefined) throw new TypeError(`No format holds scales per ${scales.scaling.kind}`);
  return found.id;
}

/** Returns the format that `--format` means by `output`, and how it is written. */
export function gridWriterFor(output: GridOutput): { format: string; writer: GridWriter } {
  const found = FORMATS.find(({ writeGrid }) => writeGrid?.outputs.includes(output) === true);
  if (found === undefined) throw new TypeError(`No format is written for ${output}`);
  return { format: found.id, writer: found.writeGrid! };
}

/** Returns how the grid of a format is written; null if it is INT8. */
export function gridWriterOf(format: string): GridWriter | null {
  return FORMATS.find(({ id }) => id === format)?.writeGrid ?? null;
}

/** The formats that options may name, and how they are written. */
export const NAMED_FORMATS: ReadonlyMap<string, FormatWriter> = new Map(
  FORMATS.flatMap(({ id, write }) => write === undefined ? [] : [[id, write]]),
);

/** Returns how a format is written. */
export function writerOf(format: string): FormatWriter {
  const writer = NAMED_FORMATS.get(format);
  if (writer === undefined) throw new TypeError(`The format ${format} is not written`);
  return writer;
}

/** The version of ComfyUI whose loader the rules were read from. */
const COMFYUI = "0.33.0";

/**
 * Returns what runs layers of these formats, and the version whose loader has them, by format; formats that no
 * loader has are left out.
 */
export function runsOn(formats: readonly string[]): Record<string, string> {
  const known = FORMATS.filter(({ id, runsOn }) => formats.includes(id) && runsOn !== undefined);
  return Object.fromEntries(known.map(({ id, runsOn, isStock = false }) => [
    id,
    isStock ? `${runsOn}; the loader of ComfyUI ${COMFYUI} has it` : runsOn!,
  ]));
}

/** Whether stock ComfyUI loads layers whose marker names this format. */
export function isStockFormat(format: string): boolean {
  return FORMATS.some(({ id, isStock }) => id === format && isStock === true);
}
