/**
 * The layer config: JSON that says, by patterns of layer names, how layers are to be converted. Two
 * shapes are read, `{pattern: entry, ...}` and `{"layer_patterns": {pattern: entry, ...}}`; in either
 *
 * - `_default` is the entry of layers that no pattern matches,
 * - `_exclusions` is a list of patterns of layers that are kept, whatever else matches them,
 * - `_comment` is a text, or a list of texts, for people.
 *
 * A field that an entry does not have is as the command line says. Which entry counts if several
 * match is decided in `resolve_layer_config.ts`.
 */

import { nearMiss } from "../core/nearest.ts";
import * as v from "valibot";
import { UsageError } from "../core/errors.ts";
import { JsonError, parseJsonStrict } from "../core/json.ts";
import { NAMED_FORMATS } from "../formats/written_format.ts";
import { GROUP_SIZES, OUTPUTS } from "../formats/outputs.ts";
import { type LayerOverride, NO_OVERRIDE, OPTIMIZERS } from "./layer_override.ts";
import { compileLayerPattern, type LayerPattern } from "./layer_pattern.ts";

const FORMATS: readonly string[] = [...OUTPUTS, ...NAMED_FORMATS.keys()];
const SCALING_MODES = ["tensor", "axis", "row", "block"] as const;

const flag = v.boolean("true or false is needed");

/** One entry. */
const ENTRY = v.strictObject({
  format: v.optional(v.picklist(FORMATS, `one of ${FORMATS.join(", ")} is needed`)),
  block_size: v.optional(
    v.pipe(
      v.number("a positive integer is needed"),
      v.integer("a positive integer is needed"),
      v.minValue(1, "a positive integer is needed"),
      v.maxValue(65_536, "at most 65536 is accepted"),
    ),
  ),
  group_size: v.optional(
    v.picklist(GROUP_SIZES, `one of ${GROUP_SIZES.join(", ")} is needed`),
  ),
  codebook: v.optional(v.picklist(["default", "fit"], "one of default, fit is needed")),
  linear_dtype: v.optional(v.picklist(["int4", "int8"], "one of int4, int8 is needed")),
  scaling_mode: v.optional(
    v.picklist(SCALING_MODES, `one of ${SCALING_MODES.join(", ")} is needed`),
  ),
  simple: v.optional(flag),
  full_precision_matrix_mult: v.optional(flag),
  skip: v.optional(flag),
  kept_as: v.optional(v.picklist(["bf16"], "bf16 is needed")),
  convrot: v.optional(
    v.custom<"auto" | "off" | number>(
      (value) => value === "auto" || value === "off" || isPowerOfFour(value),
      '"auto", "off" or a power of 4 is needed',
    ),
  ),
  optimizer: v.optional(v.picklist(OPTIMIZERS, `one of ${OPTIMIZERS.join(", ")} is needed`)),
});

/** An entry of a layer config, as it is written. */
export type LayerEntry = v.InferOutput<typeof ENTRY>;

const FIELDS = Object.keys(ENTRY.entries);
const SPECIAL_KEYS = ["_default", "_exclusions", "_comment"] as const;
const WRAPPER = "layer_patterns";

/** A pattern of a layer config and its settings. */
export interface LayerConfigPattern {
  /** Which layers it is for. */
  readonly pattern: LayerPattern;
  /** Their settings. */
  readonly override: LayerOverride;
}

/** A layer config that keeps all rules. */
export interface LayerConfig {
  /** The file, for messages. */
  readonly path: string;
  /** In file order. */
  readonly patterns: readonly LayerConfigPattern[];
  /** null: layers that no pattern matches are as the command line says. */
  readonly default: LayerOverride | null;
  /** Layers that are kept. */
  readonly exclusions: readonly LayerPattern[];
}

/**
 * Reads the text of a layer config.
 *
 * @param text JSON.
 * @param path the file, for messages.
 * @throws UsageError that names file, entry and field of the first rule that is broken.
 */
export function parseLayerConfig(text: string, path: string): LayerConfig {
  const place = `layer config ${JSON.stringify(path)}`;
  const top = asObject(parseJson(text, place), `Cannot read ${place}`);
  const wrapped = Object.hasOwn(top, WRAPPER);
  const inner = wrapped ? asObject(top[WRAPPER], `Cannot read ${place}, entry "${WRAPPER}"`) : top;

  const patterns: LayerConfigPattern[] = [];
  const special = new Map<string, unknown>();
  const sources = wrapped ? [top, inner] : [top];
  for (const source of sources) {
    for (const [key, value] of Object.entries(source)) {
      const at = `Cannot read ${place}, entry ${JSON.stringify(key)}`;
      if (wrapped && source === top && key === WRAPPER) continue;
      if (key.startsWith("_")) {
        if (!(SPECIAL_KEYS as readonly string[]).includes(key)) {
          throw new UsageError(
            `${at}: unknown key; ${nearestOf(key, SPECIAL_KEYS)}`,
          );
        }
        if (special.has(key)) throw new UsageError(`${at}: it is there twice`);
        special.set(key, value);
        continue;
      }
      if (wrapped && source === top) {
        throw new UsageError(
          `${at}: beside "${WRAPPER}" only ${SPECIAL_KEYS.join(", ")} may stand`,
        );
      }
      patterns.push({
        pattern: compileLayerPattern(key, { place }),
        override: readEntry(value, { at, origin: `layer config ${JSON.stringify(key)}` }),
      });
    }
  }
  const fallback = special.has("_default")
    ? readEntry(special.get("_default"), {
      at: `Cannot read ${place}, entry "_default"`,
      origin: "layer config _default",
    })
    : null;
  const exclusionPlace = `${place}, entry "_exclusions"`;
  const exclusions = readTexts(special.get("_exclusions") ?? [], exclusionPlace)
    .map((pattern) => compileLayerPattern(pattern, { place: exclusionPlace }));
  readTexts(special.get("_comment") ?? [], `${place}, entry "_comment"`);
  if (patterns.length === 0 && fallback === null && exclusions.length === 0) {
    throw new UsageError(`Cannot read ${place}: it has no entries`);
  }
  return { path, patterns, default: fallback, exclusions };
}

function parseJson(text: string, place: string): unknown {
  if (text.startsWith("\ufeff")) {
    throw new UsageError(
      `Cannot read ${place}, line 1, column 1: it begins with a byte order mark, JSON has none`,
    );
  }
  try {
    return parseJsonStrict(text);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    const comment = commentOffset(text);
    const isComment = error.fault === "syntax" && comment !== null;
    const offset = isComment ? comment : error.offset;
    const where = offset === null ? "" : `, ${lineAndColumn(text, offset)}`;
    const what = isComment
      ? 'JSON has no comments; an entry "_comment" is for them'
      : error.message;
    throw new UsageError(`Cannot read ${place}${where}: ${what}`, { cause: error });
  }
}

/** Returns where the first `//`, `/*` or `#` outside a string is; null if there is none. */
function commentOffset(text: string): number | null {
  const token = /"(?:[^"\\]|\\.)*"|\/\/|\/\*|#/g;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    if (!match[0].startsWith('"')) return match.index;
  }
  return null;
}

function lineAndColumn(text: string, offset: number): string {
  const before = text.slice(0, offset).split("\n");
  return `line ${before.length}, column ${before.at(-1)!.length + 1}`;
}

function asObject(value: unknown, at: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new UsageError(`${at}: an object is needed`);
}

function readTexts(value: unknown, place: string): readonly string[] {
  const texts = typeof value === "string" ? [value] : value;
  if (Array.isArray(texts) && texts.every((text) => typeof text === "string")) return texts;
  throw new UsageError(`Cannot read ${place}: a list of texts is needed`);
}

function readEntry(value: unknown, { at, origin }: { at: string; origin: string }): LayerOverride {
  const object = asObject(value, at);
  for (const field of Object.keys(object)) {
    if (FIELDS.includes(field)) continue;
    throw new UsageError(
      `${at}, field ${JSON.stringify(field)}: unknown field; ${nearestOf(field, FIELDS)}`,
    );
  }
  const result = v.safeParse(ENTRY, object);
  if (!result.success) {
    const [issue] = result.issues;
    const field = String(issue.path?.[0]?.key);
    throw new UsageError(
      `${at}, field ${JSON.stringify(field)}: ${issue.message}, it is ${
        JSON.stringify(object[field])
      }`,
    );
  }
  return overrideOf(result.output, { at, origin });
}

function nearestOf(name: string, known: readonly string[]): string {
  const near = nearMiss(name, known);
  return near === null ? `there are ${known.join(", ")}` : `the nearest is ${JSON.stringify(near)}`;
}

function overrideOf(
  entry: LayerEntry,
  { at, origin }: { at: string; origin: string },
): LayerOverride {
  const said = entry.scaling_mode === "axis" ? "row" : entry.scaling_mode ?? null;
  const format = NAMED_FORMATS.has(entry.format ?? "") ? entry.format! : null;
  const output = entry.format === undefined
    ? null
    : OUTPUTS.find((name) => name === entry.format) ?? "int8";
  const allowed = format === null ? null : NAMED_FORMATS.get(format)!.scalings;
  if (allowed !== null && said !== null && !allowed.includes(said)) {
    throw new UsageError(
      `${at}, field "scaling_mode": ${JSON.stringify(entry.scaling_mode)} contradicts format ${
        JSON.stringify(entry.format)
      }`,
    );
  }
  const scaling = said ?? allowed?.[0] ?? null;
  if (
    entry.convrot !== undefined && entry.convrot !== "off" && scaling !== null && scaling !== "row"
  ) {
    throw new UsageError(
      `${at}, field "convrot": rotated layers have one scale per row, this entry asks for ${scaling} scaling`,
    );
  }
  if (entry.simple === true && entry.optimizer !== undefined) {
    throw new UsageError(`${at}, field "optimizer": it contradicts "simple": true`);
  }
  if (entry.kept_as !== undefined && entry.skip !== true) {
    throw new UsageError(`${at}, field "kept_as": only a layer with "skip": true is kept`);
  }
  return {
    ...NO_OVERRIDE,
    skip: entry.skip ?? false,
    keptAs: entry.kept_as === undefined ? null : "BF16",
    output,
    groupSize: entry.group_size ?? null,
    codebook: entry.codebook ?? null,
    linearDtype: entry.linear_dtype ?? null,
    format,
    scaling,
    blockSize: entry.block_size ?? null,
    convrot: entry.convrot ?? null,
    simple: entry.simple ?? null,
    optimizer: entry.optimizer ?? null,
    fullPrecisionMatrixMult: entry.full_precision_matrix_mult ?? null,
    origin,
  };
}

function isPowerOfFour(value: unknown): boolean {
  if (typeof value !== "number") return false;
  let power = 4;
  while (power < value) power *= 4;
  return power === value;
}
