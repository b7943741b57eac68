/** Which format a conversion writes, and how: asked of the formats themselves. */

import type { GridOutput } from "./outputs.ts";
import type { FormatWriter, GridWriter, WrittenScales } from "./format.ts";
import type { Scheme } from "../quant/scheme.ts";
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

/** Returns what runs layers of these formats, and since which version, by format; those without a loader are left out. */
export function runsOn(formats: readonly string[]): Record<string, string> {
  const known = FORMATS.filter(({ id, runsOn }) => formats.includes(id) && runsOn !== undefined);
  return Object.fromEntries(known.map(({ id, runsOn, stockSince }) => [
    id,
    stockSince === undefined ? runsOn! : `${runsOn}; loads in ComfyUI ${stockSince} or later`,
  ]));
}

/**
 * Returns the versions that layers with these schemes need: `ComfyUI 0.31.0 or later`; null if no stock ComfyUI
 * loads one of them, or there are none.
 */
export function versionsFor(schemes: readonly Pick<Scheme, "format" | "levels">[]): string | null {
  const formats = schemes.map((scheme) => ({
    levels: scheme.levels,
    format: FORMATS.find(({ id }) => id === scheme.format)!,
  }));
  const since = formats.flatMap(({ format }) => format.stockSince ?? []);
  if (since.length === 0 || since.length < schemes.length) return null;
  const inOrder = new Intl.Collator("en", { numeric: true });
  const newest = since.toSorted(inOrder.compare).at(-1);
  const needs = formats.flatMap(({ levels, format: { writeGrid } }) =>
    levels === undefined ? [] : writeGrid?.needs?.(levels) ?? []
  );
  return [`ComfyUI ${newest}`, ...new Set(needs)].map((name) => `${name} or later`).join(" and ");
}

/** Whether stock ComfyUI loads layers whose marker names this format. */
export function isStockFormat(format: string): boolean {
  return FORMATS.some(({ id, stockSince }) => id === format && stockSince !== undefined);
}
