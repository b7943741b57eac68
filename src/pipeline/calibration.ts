/**
 * Calibration data: what is known of the inputs of each layer, from a safetensors or JSON file. Per layer
 * `L` (the name of its weight without `.weight`):
 *
 * | name | shape | meaning |
 * | --- | --- | --- |
 * | `L.activations` | `[T, K]` | inputs, one per row |
 * | `L.hessian` | `[K, K]` | second moments of the inputs, up to a factor |
 * | `L.channel_max` | `[K]` | largest magnitude of each input channel |
 * | `L.channel_mean` | `[K]` | mean magnitude of each input channel, where there is no maximum |
 * | `L.input_scale` | `[]` | scale for static activations |
 *
 * In JSON: `{"L": {"channel_max": [...], "activations": [[...], ...], ...}}`. The best of a layer is used,
 * in the order of the table.
 */

import type { FloatDType } from "../core/dtype.ts";
import { isFloatDType } from "../core/dtype.ts";
import { FormatError } from "../core/errors.ts";
import type { SourceTensor, TensorInfo } from "../core/tensor.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import { openModel } from "../safetensors/reader.ts";
import { readCalibrationJson } from "../safetensors/calibration_json.ts";

/** Which statistic a layer's Hessian is made from. */
export type Statistic = "activations" | "hessian" | "channels";

/** Where the numbers are. */
export type StatisticData =
  | {
    readonly kind: "file";
    /** Index among the run's inputs, once the plan has placed them. */
    readonly file: number;
    readonly offsetBytes: number;
    readonly dtype: FloatDType;
  }
  | { readonly kind: "inline"; readonly values: Float32Array };

/** What a Hessian of one layer is made from. */
export interface LayerStatistic {
  readonly statistic: Statistic;
  /** T for activations, K for a Hessian, 1 for channels. */
  readonly rows: number;
  readonly cols: number;
  readonly data: StatisticData;
}

/** All layers of a calibration file. */
export interface Calibration {
  readonly path: string;
  /** The files behind `kind: "file"` data, to be appended to a run's inputs. */
  readonly paths: readonly string[];
  readonly layers: ReadonlyMap<string, LayerStatistic>;
}

const FIELDS: Readonly<Record<string, Statistic | null>> = {
  activations: "activations",
  hessian: "hessian",
  channel_max: "channels",
  channel_mean: "channels",
  input_scale: null,
};

/** Better statistics first. */
const ORDER = ["activations", "hessian", "channel_max", "channel_mean"];

/**
 * Reads the headers (JSON: all) of a calibration file.
 *
 * @throws FormatError where a name or shape is none of the layout.
 */
export function openCalibration(path: string): Calibration {
  if (path.endsWith(".json") && !path.endsWith(".index.json")) {
    return { path, paths: [], layers: jsonLayers(path) };
  }
  const model = openModel(path);
  const best = new Map<string, { rank: number; statistic: LayerStatistic }>();
  for (const tensor of model.tensors) {
    const { layer, field } = split(tensor, path);
    const rank = ORDER.indexOf(field);
    if (rank < 0) continue;
    const known = best.get(layer);
    if (known !== undefined && known.rank <= rank) continue;
    best.set(layer, { rank, statistic: statisticOf(tensor, FIELDS[field]!, path) });
  }
  return { path, paths: model.paths, layers: strip(best) };
}

function strip(
  best: ReadonlyMap<string, { statistic: LayerStatistic }>,
): Map<string, LayerStatistic> {
  return new Map([...best].map(([layer, { statistic }]) => [layer, statistic]));
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
  return { layer: tensor.name.slice(0, dot).replace(/\.weight$/, ""), field };
}

function statisticOf(tensor: SourceTensor, statistic: Statistic, path: string): LayerStatistic {
  const { name, dtype, shape } = tensor;
  const fail = (rule: string): never => {
    throw new FormatError(rule, { path, tensor: name });
  };
  if (!isFloatDType(dtype)) return fail(`calibration data must be floats, this is ${dtype}`);
  const [rows, cols] = statistic === "channels" ? [1, shape[0]] : shape;
  const rank = statistic === "channels" ? 1 : 2;
  if (shape.length !== rank || rows === undefined || cols === undefined) {
    return fail(`${statistic} has shape [${shape.join(", ")}], needs ${rank} dimensions`);
  }
  if (rows === 0 || cols === 0) return fail("it is empty");
  if (statistic === "hessian" && rows !== cols) {
    return fail(`a Hessian is square, this is [${rows}, ${cols}]`);
  }
  const { file, offsetBytes } = tensor;
  return { statistic, rows, cols, data: { kind: "file", file, offsetBytes, dtype } };
}

function jsonLayers(path: string): Map<string, LayerStatistic> {
  const layers = new Map<string, LayerStatistic>();
  for (const [layer, fields] of readCalibrationJson(path)) {
    const field = ORDER.find((name) => fields[name as keyof typeof fields] !== undefined);
    if (field === undefined) continue;
    const value = fields[field as keyof typeof fields] as number[] | number[][];
    const matrix = Array.isArray(value[0]) ? value as number[][] : [value as number[]];
    const cols = matrix[0]?.length ?? 0;
    if (cols === 0 || matrix.some((row) => row.length !== cols)) {
      throw new FormatError(`${field} of ${layer} has no columns, or rows of different length`, {
        path,
      });
    }
    if (field === "hessian" && matrix.length !== cols) {
      throw new FormatError(`a Hessian is square, ${layer} has [${matrix.length}, ${cols}]`, {
        path,
      });
    }
    const values = Float32Array.from(matrix.flat());
    const statistic = FIELDS[field]!;
    const rows = matrix.length;
    layers.set(layer.replace(/\.weight$/, ""), {
      statistic,
      rows,
      cols,
      data: { kind: "inline", values },
    });
  }
  return layers;
}

/** Layers of the calibration that do not fit the model, one sentence each. */
export function unmatchedLayers(calibration: Calibration, model: ModelSource): string[] {
  const weights = new Map(
    model.tensors.map(({ name, shape }) => [name.replace(/\.weight$/, ""), shape]),
  );
  const notes: string[] = [];
  for (const [layer, { cols, statistic }] of calibration.layers) {
    const shape = weights.get(layer);
    if (shape === undefined) {
      notes.push(`the calibration data has "${layer}", which the model does not`);
    } else if (shape.length === 2 && shape[1] !== cols) {
      throw new FormatError(
        `${statistic} of "${layer}" has ${cols} channels, its weight has ${shape[1]} columns`,
        { path: calibration.path, hint: "calibrate with this model" },
      );
    }
  }
  return notes;
}
