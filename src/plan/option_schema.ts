/**
 * The values that every option of a conversion may have, in one schema for all doors, and the function that checks
 * a set of options by it. Options that contradict one another are `contradictions.ts`.
 */

import * as v from "valibot";
import { UsageError } from "../core/errors.ts";
import { nearMiss } from "../core/nearest.ts";
import { LEARNED_OPTIMIZERS } from "../quant/learned/options.ts";
import { FIT_FORMATS } from "./fit/fit_options.ts";
import { GROUP_SIZES, OUTPUTS } from "../formats/outputs.ts";
import { LIBRARY_NAMES, type OptionNames, shownValue } from "./option_names.ts";

/** The entries of an object of options. */
export type Entries = v.ObjectEntries;

const MAX_BLOCK = 65_536;

export const yesOrNo = v.boolean("true or false is needed");

/** Returns the schema of a choice. */
export function oneOf<const T extends string>(...words: readonly T[]) {
  return v.picklist(words, `one of ${words.join(", ")} is needed`);
}

/** Returns the schema of a number, both bounds included. */
export function number(least: number, most = Infinity, { whole = false } = {}) {
  const range = most === Infinity || most === Number.MAX_SAFE_INTEGER
    ? least === -Infinity ? "" : ` of at least ${least}`
    : ` from ${least} to ${most}`;
  const rule = `a ${whole ? "whole " : ""}number${range} is needed`;
  return v.custom<number>((value) =>
    typeof value === "number" && value >= least && value <= most &&
    (whole ? Number.isSafeInteger(value) : Number.isFinite(value)), rule);
}

/** Returns the schema of a whole number. */
export function whole(least: number, most = Infinity) {
  return number(least, most, { whole: true });
}

const text = v.pipe(v.string("a text is needed"), v.minLength(1, "a text is needed"));

/** The path of a file. */
export const path = v.pipe(
  v.string("the path of a file is needed"),
  v.minLength(1, "the path of a file is needed"),
);

/** A safetensors file that is written. */
export const outputPath = v.pipe(
  path,
  v.check(
    (name) => /\.safetensors(\.index\.json)?$/i.test(name),
    "a name that ends with .safetensors is needed",
  ),
);

const rotation = v.custom<"auto" | "off" | number>(
  (value) => value === "auto" || value === "off" || isPowerOfFour(value),
  '"auto", "off" or a group is needed, a power of 4 from 4 on: 16, 64, 256, 1024',
);

const schedules = v.variant("kind", [
  v.strictObject({
    kind: v.literal("adaptive"),
    mode: v.optional(oneOf("simple-reset", "no-reset")),
  }),
  v.strictObject({ kind: v.literal("exponential"), gamma: v.optional(number(0, 1)) }),
  v.strictObject({
    kind: v.literal("plateau"),
    patience: v.optional(whole(0)),
    factor: v.optional(number(0, 1)),
    min: v.optional(number(0)),
    cooldown: v.optional(whole(0)),
    threshold: v.optional(number(0)),
    thresholdMode: v.optional(oneOf("rel", "abs")),
    shapeInfluence: v.optional(number(0)),
  }),
], "a schedule with the kind adaptive, exponential or plateau is needed");

/** How codes are learned; see `LearnedOptions`. */
export const LEARNED_ENTRIES = {
  iterations: v.optional(whole(0)),
  lr: v.optional(number(0)),
  topP: v.optional(number(0, 1)),
  minDirections: v.optional(whole(1)),
  maxDirections: v.optional(whole(1)),
  fullMatrix: v.optional(yesOrNo),
  schedule: v.optional(schedules),
  stopLoss: v.optional(number(0)),
  stopLr: v.optional(number(0)),
  stopStall: v.optional(whole(1)),
  errorLimitDb: v.optional(number(0, 100)),
};

/** Output of `quip`; see `QuipOptions`. */
export const QUIP_ENTRIES = {
  storeTransformed: v.optional(yesOrNo),
  requantScheme: v.optional(v.nullable(oneOf("tensor", "block"))),
  perRow: v.optional(yesOrNo),
  seed: v.optional(whole(0)),
};

const segments = v.nullable(
  v.strictObject(
    { threshold: v.optional(whole(1)), count: v.optional(whole(1)) },
    anObject("segments"),
  ),
);

const merge = v.nullable(
  v.strictObject({
    paths: v.pipe(
      v.array(path, "a list of LoRA files is needed"),
      v.minLength(1, "a LoRA is needed"),
    ),
    scale: v.optional(number(-Infinity)),
    dampen: v.optional(yesOrNo),
    strict: v.optional(yesOrNo),
  }, anObject("merge")),
);

/** A pattern of names: a text, or something with `source` and `test`. */
const pattern = v.custom<string | RegExp>(
  (value) =>
    (typeof value === "string" && value !== "") || value instanceof RegExp ||
    (isObject(value) && typeof value["source"] === "string" && typeof value["test"] === "function"),
  "a regular expression is needed, as a text or a RegExp",
);

const presets = v.union([
  text,
  v.strictObject({ kind: oneOf("auto", "none") }),
  v.strictObject({ kind: v.literal("family"), id: text }),
  v.strictObject({ kind: v.literal("documented"), names: v.array(text) }),
  v.strictObject({ kind: v.literal("like"), path }),
], 'a preset is needed: "auto", "none", a name, or {kind: "like", path}');

const madeBy = (maker: string, key: string) =>
  v.custom<object>((value) => isObject(value) && key in value, `what ${maker} returns is needed`);

const fitSize = v.union([
  v.strictObject({ bytes: whole(1) }),
  v.strictObject({ share: number(0, 10) }),
], "a size is needed: {bytes} or {share}, a fraction of the size of the input");

const groupSize = v.picklist(GROUP_SIZES, `one of ${GROUP_SIZES.join(", ")} is needed`);

/** Every option of a conversion, as it may be asked for. */
export const OPTION_ENTRIES = {
  target: v.optional(oneOf("comfyui", "ctq")),
  output: v.optional(oneOf(...OUTPUTS)),
  groupSize: v.optional(groupSize),
  codebook: v.optional(oneOf("default", "fit")),
  linearDtype: v.optional(oneOf("int4", "int8")),
  scaling: v.optional(v.nullable(oneOf("tensor", "axis", "row", "block"))),
  blockSize: v.optional(whole(1, MAX_BLOCK)),
  convrot: v.optional(v.nullable(rotation)),
  scaleSearch: v.optional(v.nullable(oneOf("off", "mse"))),
  method: v.optional(oneOf("auto", "simple", "gptq", "quip", ...LEARNED_OPTIMIZERS)),
  learned: v.optional(v.strictObject(LEARNED_ENTRIES, anObject("learned"))),
  seed: v.optional(whole(0)),
  quip: v.optional(v.strictObject(QUIP_ENTRIES, anObject("quip"))),
  segments: v.optional(segments),
  calibrationPath: v.optional(v.nullable(path)),
  calibrationHoldout: v.optional(v.nullable(number(0, 0.9))),
  biasCorrection: v.optional(yesOrNo),
  staticActivations: v.optional(yesOrNo),
  calibrationLora: v.optional(v.nullable(path)),
  smoothAlpha: v.optional(v.nullable(number(0, 1))),
  actOrder: v.optional(yesOrNo),
  turbo: v.optional(yesOrNo),
  heur: v.optional(yesOrNo),
  comfyQuant: v.optional(yesOrNo),
  saveQuantMetadata: v.optional(yesOrNo),
  fullPrecisionMatrixMult: v.optional(yesOrNo),
  inputScale: v.optional(yesOrNo),
  normalizeScales: v.optional(yesOrNo),
  excludeLayers: v.optional(v.nullable(pattern)),
  layers: v.optional(v.nullable(madeBy("resolveOptions", "flags"))),
  layerConfig: v.optional(v.nullable(madeBy("loadLayerConfig", "patterns"))),
  fullmatch: v.optional(yesOrNo),
  customLayers: v.optional(v.nullable(v.string("a regular expression is needed, as a text"))),
  customType: v.optional(v.nullable(oneOf(...OUTPUTS))),
  customBlockSize: v.optional(v.nullable(whole(1, MAX_BLOCK))),
  customScalingMode: v.optional(v.nullable(oneOf("tensor", "axis", "row", "block"))),
  customSimple: v.optional(yesOrNo),
  customHeur: v.optional(yesOrNo),
  fallback: v.optional(v.nullable(oneOf(...OUTPUTS))),
  fallbackBlockSize: v.optional(v.nullable(whole(1, MAX_BLOCK))),
  fallbackSimple: v.optional(yesOrNo),
  merge: v.optional(merge),
  nonfinite: v.optional(oneOf("error", "keep")),
  preset: v.optional(presets),
  tier: v.optional(oneOf("minimal", "balanced", "conservative")),
  requantize: v.optional(yesOrNo),
  lora: v.optional(yesOrNo),
  allowCopy: v.optional(yesOrNo),
  shardBytes: v.optional(v.nullable(whole(1))),
  fit: v.optional(v.nullable(fitSize)),
  maxError: v.optional(v.nullable(number(0))),
  fitFormats: v.optional(
    v.pipe(
      v.array(oneOf(...FIT_FORMATS), "a list of formats is needed"),
      v.minLength(2, "two formats or more are needed to choose from"),
    ),
  ),
};

/** Names in the documents, or on the command line, of options that have another name here. */
const OTHER_NAMES: Readonly<Record<string, string>> = {
  inputfile: "input",
  outputfile: "outputPath",
  output: "outputPath",
  optimizer: "method",
  nolearnedrounding: 'method: "simple"',
  simple: 'method: "simple"',
  fp16: 'output: "fp16"',
  int8: 'output: "int8"',
  filterflags: 'preset: {kind: "documented", names}',
  scalingmode: "scaling",
  skipinefficientlayers: "heur",
  includeinputscale: "inputScale",
  layerconfigfullmatch: "fullmatch",
  format: "output",
  groupsizes: "groupSize",
  mergelorapath: "merge: {paths}",
  mergelorapaths: "merge: {paths}",
  mergelora: "merge: {paths}",
  mergeloras: "merge: {paths}",
  mergelorascale: "merge: {paths, scale}",
  mergeloradampen: "merge: {paths, dampen}",
  smoothquant: "smoothAlpha",
  smoothquantalpha: "smoothAlpha",
  calibrationdata: "calibrationPath",
  calibrationdatapath: "calibrationPath",
  calibrationlorapath: "calibrationLora",
  gptqactorder: "actOrder",
  quipactorder: "actOrder",
  actorder: "actOrder",
  gptqturbo: "turbo",
  manualseed: "seed",
  quipseed: "quip: {seed}",
  quipstoretransformed: "quip: {storeTransformed}",
  quiprequantscheme: "quip: {requantScheme}",
  quiprequanttensorperrow: "quip: {perRow}",
  requanttensoruseperrowscale: "perRow",
  quipcheckpointed: "segments",
  usecheckpointedldlq: "segments",
  quipcheckpointthreshold: "segments: {threshold}",
  checkpointedldlqthreshold: "segments: {threshold}",
  quipcheckpointsegments: "segments: {count}",
  checkpointsegments: "segments: {count}",
  numiter: "learned: {iterations}",
  lrschedule: "learned: {schedule}",
  mink: "minDirections",
  maxk: "maxDirections",
  streamingmode: "gpuMemory: {mode}",
  streamingthresholds: "gpuMemory: {thresholds}",
  nomemorylimits: "gpuMemory: {hasLimits: false}",
  memorylimit: "memoryLimitBytes",
  reportquality: "measure",
  h: "hessian",
  threshold: "thresholdDb",
};

/**
 * Returns `given` without the options that are undefined, every one checked.
 *
 * @param what names the set of options in the message about one that is not in it: `convertToInt8`.
 * @throws UsageError for a name that is in no entry, with the nearest, and for a value of the wrong kind.
 */
export function checkOptions(
  entries: Entries,
  given: object,
  { names = LIBRARY_NAMES, what }: { names?: OptionNames; what: string },
): Record<string, unknown> {
  if (!isObject(given)) {
    throw new UsageError(
      `Cannot use ${shownValue(given)} for the options of ${what}: an object is needed`,
    );
  }
  const present = Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  );
  const result = v.safeParse(v.strictObject(entries), present, { abortEarly: true });
  if (result.success) return present;
  const [issue] = result.issues;
  const keys = (issue.path ?? []).map(({ key }) => String(key));
  if (issue.type === "strict_object" && issue.expected === "never") {
    throw unknownOption(keys, knownAt(entries, keys.slice(0, -1)), what);
  }
  throw new UsageError(
    `Cannot use ${shownValue(issue.input)} for ${names(keys.join("."))}: ${issue.message}`,
  );
}

function unknownOption(
  keys: readonly string[],
  known: readonly string[],
  what: string,
): UsageError {
  const name = keys.at(-1)!;
  const other = OTHER_NAMES[name.replaceAll(/[-_]/g, "").toLowerCase()];
  const isThere = other !== undefined && known.includes(other.replace(/:.*/, ""));
  const near = nearMiss(name.replaceAll("_", ""), known);
  const hint = isThere
    ? `it is ${other} here`
    : near !== null
    ? `the nearest is ${near}`
    : `there are ${known.join(", ")}`;
  return new UsageError(`Unknown option ${shownValue(keys.join("."))} of ${what}: ${hint}`);
}

/** The names that an object inside the options may have. */
function knownAt(entries: Entries, keys: readonly string[]): string[] {
  let found: Record<string, unknown> = entries;
  for (const key of keys) found = entriesOf(found[key]);
  return Object.keys(found);
}

function entriesOf(schema: unknown): Record<string, unknown> {
  if (!isObject(schema)) return {};
  if ("entries" in schema) return schema["entries"] as Record<string, unknown>;
  if ("wrapped" in schema) return entriesOf(schema["wrapped"]);
  // A variant: what any of its forms has.
  const forms = Array.isArray(schema["options"]) ? schema["options"] : [];
  return Object.assign({}, ...forms.map(entriesOf));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function anObject(name: string): string {
  return `an object of the options of ${name} is needed`;
}

function isPowerOfFour(value: unknown): boolean {
  // A power of 4 is a power of 2 whose exponent is even; 1 would rotate nothing.
  return typeof value === "number" && value >= 4 && Number.isInteger(Math.log2(value) / 2);
}
