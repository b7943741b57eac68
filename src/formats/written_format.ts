/** Which format a conversion writes, and how: asked of the formats themselves. */

import type { QuantFormat } from "../quant/scheme.ts";
import type { FormatWriter, WrittenScales } from "./format.ts";
import { FORMATS } from "./registry.ts";

/**
 * Returns the format that holds weights with such scales.
 *
 * @throws TypeError if none does.
 */
export function formatFor(scales: WrittenScales): QuantFormat {
  const found = FORMATS.find(({ write }) => write?.holds(scales) === true);
  if (found === undefined) throw new TypeError(`No format holds scales per ${scales.scaling.kind}`);
  return found.id as QuantFormat; // those with a writer
}

/** Returns how a format is written. */
export function writerOf(format: QuantFormat): FormatWriter {
  const writer = FORMATS.find(({ id }) => id === format)?.write;
  if (writer === undefined) throw new TypeError(`The format ${format} is not written`);
  return writer;
}

/** Whether stock ComfyUI loads layers whose marker names this format. */
export function isStockFormat(format: string): boolean {
  return FORMATS.some(({ id, isStock }) => id === format && isStock === true);
}
