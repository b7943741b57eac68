/**
 * Calibration data: what is known of the inputs of each layer, from a safetensors or JSON file. Per layer
 * `L` (the name of its weight without `.weight`):
 *
 * | name | shape | meaning |
 * | --- | --- | --- |
 * | `L.activations` | `[T, K]` | inputs, one per row |
 * | `L.hessian` | `[K, K]` | second moments of the inputs, up to a factor |
 * | `L.channel_max` | `[K]` | largest magnitude of each input channel |
 * | `L.channel_mean` | `[K]` | mean of each input channel, or its mean magnitude |
 * | `L.input_scale` | `[]` | scale for static activations |
 *
 * Of an expert bank `B` `[E, N, K]` each expert has its own: `B.3.activations` (also `P.3.X.activations` for the
 * bank `P.X`), or all in one tensor with a leading dimension, `B.activations` `[E, T, K]`; see
 * `expert_statistics.ts`. Statistics of `B` itself stand for all experts that have none.
 *
 * `__metadata__` may say `quantsmith.statistics` = `synthetic`: then the numbers are not of real inputs,
 * and no bias is corrected by them. A `channel_mean` without negative numbers holds magnitudes, which
 * correct nothing either. `quantsmith.row_origins` = `{"L": [rows, rows, ...]}` says how many neighbouring
 * rows of activations are from one origin (a run, a prompt): rows to measure with are taken from others than
 * rows to fit to. `quantsmith.moments` = `{"L": inputs}` says of how many inputs the second moments are, and
 * that none of them is of the last origins of the activations, an eighth of the rows or more: a layer is fitted
 * to the second moments then, if they are of more inputs, and judged by those rows.
 *
 * In JSON: `{"L": {"channel_max": [...], "activations": [[...], ...], ...}}`. The best of a layer is used,
 * in the order of the table.
 */

import * as v from "valibot";
import { layerName } from "../core/layer_name.ts";
import { type FloatDType, isFloatDType } from "../core/dtype.ts";
import { FormatError } from "../core/errors.ts";
import type { SourceTensor, TensorInfo } from "../core/tensor.ts";
import type { InputPath } from "../remote/input_path.ts";
import { isIndexName } from "../safetensors/shards.ts";
import { openModel } from "../safetensors/reader.ts";
import { expertName } from "./expert_name.ts";
import { type CalibrationJson, readCalibrationJson } from "../safetensors/calibration_json.ts";

/** Which statistic a layer's Hessian is made from. */
export type Statistic = "activations" | "hessian" | "channels" | "lora";

/** The directions in which a LoRA reads the inputs of a layer. */
export interface LoraDirections {
  readonly rank: number;
  /** f32 `[rank, K]`, row-major. */
  readonly values: Float32Array;
}

/** Place of the numbers. */
export type StatisticData =
  & {
    /** Factor of every input channel, f32 `[K]`: inputs of smoothed layers. Absent: 1. */
    readonly factors?: Float32Array;
    /** Its name in the file, for messages. Absent: `path` says all. */
    readonly tensor?: string;
  }
  & StatisticPlace;

type StatisticPlace =
  | {
    readonly kind: "file";
    /** Index among the run's inputs, once the plan has placed them. */
    readonly file: number;
    readonly offsetBytes: number;
    readonly dtype: FloatDType;
    /** Path of the file, for messages. */
    readonly path: string;
  }
  | { readonly kind: "inline"; readonly values: Float32Array; readonly path: string };

/** Source of the Hessian of one layer. */
export interface LayerStatistic {
  readonly statistic: Statistic;
  /** T for activations, K for a Hessian, 1 for channels, 0 if only LoRA directions are known. */
  readonly rows: number;
  readonly cols: number;
  readonly data: StatisticData;
  /** How many rows of activations are from each run or prompt, in their order. Absent: unknown. */
  readonly origins?: readonly number[];
  /** Of how many inputs second moments are; absent: of more than there are channels. */
  readonly inputs?: number;
  /** Activations that second moments are judged by; absent: none. */
  readonly judgedBy?: Pick<LayerStatistic, "rows" | "origins" | "data">;
}

/** Statistic without any knowledge of inputs: all channels alike. To be steered by LoRA directions. */
export function noStatistic(cols: number): LayerStatistic {
  return {
    statistic: "lora",
    rows: 0,
    cols,
    data: { kind: "inline", values: new Float32Array(), path: "" },
  };
}

/** All layers of a calibration file. */
export interface Calibration {
  readonly path: string;
  /** The files behind `kind: "file"` data, to be appended to a run's inputs. */
  readonly paths: readonly InputPath[];
  readonly layers: ReadonlyMap<string, LayerStatistic>;
  /** All that the file has of each layer. */
  readonly fields: ReadonlyMap<string, LayerFields>;
  /** The numbers are not of real inputs. */
  readonly isSynthetic: boolean;
}

/** Fields of a layer that a file may have. */
export type CalibrationField =
  | "activations"
  | "hessian"
  | "channel_max"
  | "channel_mean"
  | "input_scale";

/** Fields of one layer in a file. */
export type LayerFields = { readonly [Field in CalibrationField]?: LayerStatistic };

/** Key and value of the metadata of a file whose numbers are not of real inputs. */
export const SYNTHETIC_METADATA = Object.freeze({
  key: "quantsmith.statistics",
  value: "synthetic",
});

const FIELDS: Readonly<Record<string, Statistic | null>> = {
  activations: "activations",
  hessian: "hessian",
  channel_max: "channels",
  channel_mean: "channels",
  input_scale: null,
};

/** Better statistics first. */
const ORDER: readonly CalibrationField[] = [
  "activations",
  "hessian",
  "channel_max",
  "channel_mean",
];

/**
 * Reads the headers (JSON: all) of a calibration file.
 *
 * @throws FormatError if a name or shape is none of the layout.
 */
export function openCalibration(path: string): Calibration {
  if (path.endsWith(".json") && !isIndexName(path) && !path.endsWith(".index.json")) {
    const { metadata, layers } = readCalibrationJson(path);
    const fields = jsonFields(path, layers);
    const isSynthetic = isMarkedSynthetic(metadata);
    return { path, paths: [], layers: bestOf(fields), fields, isSynthetic };
  }
  const model = openModel(path);
  const fields = new Map<string, Record<string, LayerStatistic>>();
  for (const tensor of model.tensors) {
    const { layer: whole, field } = split(tensor, path);
    for (const [layer, part] of perExpert(tensor, whole, field)) {
      const known = fields.get(layer) ?? {};
      fields.set(layer, known);
      if (known[field] !== undefined) refuseTwice(layer, field, path);
      known[field] = statisticOf(part, field, path);
    }
  }
  placeOrigins(fields, model.metadata ?? {}, path);
  placeMoments(fields, model.metadata ?? {}, path);
  const isSynthetic = isMarkedSynthetic(model.metadata ?? {});
  return { path, paths: model.paths, layers: bestOf(fields), fields, isSynthetic };
}

function isMarkedSynthetic(metadata: Readonly<Record<string, string>>): boolean {
  return metadata[SYNTHETIC_METADATA.key] === SYNTHETIC_METADATA.value;
}

/** Key of the metadata that says where the rows of activations are from. */
export const ORIGINS_METADATA = "quantsmith.row_origins";

/** Key of the metadata that says of how many inputs second moments are. */
export const MOMENTS_METADATA = "quantsmith.moments";

const MOMENTS = v.record(v.string(), v.pipe(v.number(), v.integer(), v.minValue(1)));

/** Adds to second moments in `fields` what the metadata says of their inputs. */
function placeMoments(
  fields: ReadonlyMap<string, Record<string, LayerStatistic>>,
  metadata: Readonly<Record<string, string>>,
  path: string,
): void {
  const text = metadata[MOMENTS_METADATA];
  if (text === undefined) return;
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), MOMENTS), text);
  if (!parsed.success) {
    throw new FormatError(
      `its metadata ${MOMENTS_METADATA} is no JSON object of layers and counts`,
      {
        path,
        hint: "capture the file again, or take the entry out of its metadata",
      },
    );
  }
  for (const [layer, inputs] of Object.entries(parsed.output)) {
    const known = fields.get(layer);
    if (known?.hessian === undefined) continue;
    const { activations } = known;
    known.hessian = {
      ...known.hessian,
      inputs,
      ...(activations === undefined ? {} : { judgedBy: activations }),
    };
  }
}

const ORIGINS = v.record(v.string(), v.array(v.pipe(v.number(), v.integer(), v.minValue(0))));

/** Adds to the activations in `fields` what the metadata says of the origins of their rows. */
function placeOrigins(
  fields: ReadonlyMap<string, Record<string, LayerStatistic>>,
  metadata: Readonly<Record<string, string>>,
  path: string,
): void {
  const text = metadata[ORIGINS_METADATA];
  if (text === undefined) return;
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), ORIGINS), text);
  const fail = (what: string): never => {
    throw new FormatError(`its metadata ${ORIGINS_METADATA} ${what}`, {
      path,
      hint: "capture the file again, or take the entry out of its metadata",
    });
  };
  if (!parsed.success) return fail("is no JSON object of layers and counts of rows");
  for (const [layer, origins] of Object.entries(parsed.output)) {
    const known = fields.get(layer);
    const activations = known?.activations;
    if (known === undefined || activations === undefined) continue;
    const sum = origins.reduce((total, count) => total + count, 0);
    if (sum !== activations.rows) {
      fail(`counts ${sum} rows of ${JSON.stringify(layer)}, which has ${activations.rows}`);
    }
    known.activations = { ...activations, origins: origins.filter((count) => count > 0) };
  }
}

/** The best statistic of every layer that has one. */
function bestOf(fields: ReadonlyMap<string, LayerFields>): Map<string, LayerStatistic> {
  const best = new Map<string, LayerStatistic>();
  for (const [layer, known] of fields) {
    const field = ORDER.find((name) => known[name] !== undefined);
    if (field === undefined) continue;
    const { hessian, activations } = known;
    const isOfMore = hessian?.inputs !== undefined && activations !== undefined &&
      hessian.inputs > activations.rows;
    best.set(layer, isOfMore ? hessian : known[field]!);
  }
  return best;
}

function split(tensor: TensorInfo, path: string): { layer: string; field: string } {
  const dot = tensor.name.lastIndexOf(".");
  const field = tensor.name.slice(dot + 1);
  if (dot <= 0 || !Object.hasOwn(FIELDS, field)) {
    throw new FormatError(`the name is no layer with one of ${Object.keys(FIELDS).join(", ")}`, {
      path,
      tensor: tensor.name,
      hint: "name calibration tensors LAYER.activations, LAYER.channel_max, ...",
    });
  }
  return { layer: layerName(tensor.name.slice(0, dot)), field };
}

/** A tensor with a dimension more than its field has holds one statistic per expert. */
function perExpert(tensor: SourceTensor, layer: string, field: string): [string, SourceTensor][] {
  const { shape, byteLength, offsetBytes } = tensor, [experts = 0, ...own] = shape;
  const rank = FIELDS[field] === "channels" ? 1 : 2;
  if (field === "input_scale" || own.length !== rank || experts === 0) return [[layer, tensor]];
  const bytes = byteLength / experts;
  return Array.from({ length: experts }, (_, expert) => [
    expertName(layer, expert),
    { ...tensor, shape: own, byteLength: bytes, offsetBytes: offsetBytes + expert * bytes },
  ]);
}

function statisticOf(tensor: SourceTensor, field: string, path: string): LayerStatistic {
  const { name, dtype, shape } = tensor;
  const statistic = FIELDS[field] ?? "channels";
  const fail = (rule: string): never => {
    throw new FormatError(rule, { path, tensor: name });
  };
  if (!isFloatDType(dtype)) return fail(`calibration data must be floats, this is ${dtype}`);
  const { file, offsetBytes } = tensor;
  const data: StatisticData = { kind: "file", file, offsetBytes, dtype, path, tensor: name };
  if (field === "input_scale") {
    const count = shape.reduce((product, size) => product * size, 1);
    if (count !== 1) fail(`a scale is one number, this has ${count}`);
    return { statistic, rows: 1, cols: 1, data };
  }
  const [rows, cols] = statistic === "channels" ? [1, shape[0]] : shape;
  const rank = statistic === "channels" ? 1 : 2;
  if (shape.length !== rank || rows === undefined || cols === undefined) {
    return fail(`${statistic} has shape [${shape.join(", ")}], needs ${rank} dimensions`);
  }
  if (rows === 0 || cols === 0) return fail("it is empty");
  if (statistic === "hessian" && rows !== cols) {
    return fail(`a Hessian is square, this is [${rows}, ${cols}]`);
  }
  return { statistic, rows, cols, data };
}

function jsonFields(
  path: string,
  entries: CalibrationJson["layers"],
): Map<string, LayerFields> {
  const layers = new Map<string, LayerFields>();
  for (const [name, entry] of entries) {
    const layer = layerName(name);
    const known: Record<string, LayerStatistic> = { ...layers.get(layer) };
    for (const [field, value] of Object.entries(entry)) {
      if (value === undefined) continue;
      if (known[field] !== undefined) refuseTwice(layer, field, path);
      known[field] = jsonStatistic({ layer, field, value, path });
    }
    if (Object.keys(known).length > 0) layers.set(layer, known);
  }
  return layers;
}

function refuseTwice(layer: string, field: string, path: string): never {
  throw new FormatError(
    `it has ${field} of ${
      JSON.stringify(layer)
    } twice: "${layer}" and "${layer}.weight" are one layer`,
    { path, hint: "take one of them out" },
  );
}

function jsonStatistic(
  { layer, field, value, path }: {
    layer: string;
    field: string;
    value: number | number[] | number[][];
    path: string;
  },
): LayerStatistic {
  const list = Array.isArray(value) ? value : [value];
  const matrix = Array.isArray(list[0]) ? list as number[][] : [list as number[]];
  const cols = matrix[0]?.length ?? 0, rows = matrix.length;
  if (cols === 0 || matrix.some((row) => row.length !== cols)) {
    throw new FormatError(`${field} of ${layer} has no columns, or rows of different length`, {
      path,
    });
  }
  if (field === "hessian" && rows !== cols) {
    throw new FormatError(`a Hessian is square, ${layer} has [${rows}, ${cols}]`, { path });
  }
  const values = Float32Array.from(matrix.flat());
  const data: StatisticData = { kind: "inline", values, path, tensor: `${layer}.${field}` };
  return { statistic: FIELDS[field] ?? "channels", rows, cols, data };
}
