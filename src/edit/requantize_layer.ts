/** How the values of a stored layer are rounded once more: to INT8, or to the format that was asked for. */

import { bytesOf } from "../core/bytes.ts";
import type { SourceTensor, TensorInfo } from "../core/tensor.ts";
import { partName } from "../formats/layer_tensors.ts";
import { markerOf } from "../formats/marker.ts";
import type { MatrixSource } from "../formats/matrix_source.ts";
import { isGridOutput } from "../formats/outputs.ts";
import type { QuantizedLayer } from "../formats/quant_layers.ts";
import { type ConvertOptions, DEFAULT_CONVERT_OPTIONS } from "../plan/options.ts";
import { BANK_FORMATS } from "../plan/plan.ts";
import { layoutOfGrid, resolveMode, schemeFor } from "../plan/scheme_choice.ts";
import { isEmbedding } from "../presets/candidates.ts";
import type { Scheme } from "../quant/scheme.ts";
import { type LayerObject, writeMarker } from "./layer_objects.ts";
import type { LayerMigration } from "./layer_migration.ts";
import type { Operation } from "./operation.ts";

/** Scales of inputs: they stay if the weight becomes INT8, whose loader ignores them. */
const INPUT_SCALES = ["input_scale", "scale_input"];

/** Keys of markers that say how codes are stored, and nothing else. */
const STORING_KEYS = [
  "format",
  "group_size",
  "block_size",
  "convrot",
  "convrot_groupsize",
  "linear_dtype",
  "out_features",
  "in_features",
];

/** Formats whose rows the loader can look up one by one. */
const TABLE_OUTPUTS: readonly string[] = ["int8", "fp8"];

/** Whether a layer is stored in the format that is asked for, whatever its parameters. */
export function isStoredAs(
  { kind, found, tensors }: QuantizedLayer,
  asked: ConvertOptions,
): boolean {
  const recipe = kind === null || found === null ? null : kind.recipe?.(tensors, found) ?? null;
  if (recipe === null) return false;
  if (recipe.grid !== undefined) return recipe.grid.output === asked.output;
  return asked.output === "int8" && kind?.stockSince !== undefined;
}

/** Returns the scheme of a layer in the format that is asked for, or why it cannot have that. */
export function schemeAskedFor(
  layer: QuantizedLayer,
  { rows, cols, name }: Pick<MatrixSource, "rows" | "cols" | "name">,
  asked: ConvertOptions,
): Scheme | string {
  const isBank = shapeOf(layer).length > 2, isInt8 = !isGridOutput(asked.output);
  if (isBank && !isInt8) return BANK_FORMATS;
  if (isEmbedding(name) && !TABLE_OUTPUTS.includes(asked.output)) {
    return "embeddings are loaded as INT8 or FP8 only";
  }
  // A rotated bank is read without its rotation by ComfyUI 0.33.0; plain rows are right everywhere.
  const mode = resolveMode({ ...asked, ...(isBank ? { convrot: "off" } : {}) });
  const { scheme, fellBack } = schemeFor(mode, { rows, cols, heur: false });
  const isGrid = scheme?.levels !== undefined || scheme?.floats !== undefined;
  return isInt8 || isGrid ? scheme! : fellBack!.replace(/^INT8 instead of \w+: /, "");
}

function shapeOf({ found }: QuantizedLayer): readonly number[] {
  return found?.shape ?? found?.codes.shape ?? [];
}

/**
 * Returns the layer rounded once more: in the format that is asked for, or if there is none, or it cannot hold the
 * layer, as a conversion does by default; banks of experts without rotation.
 *
 * @param inputScale what becomes of the scale of the inputs if it stays.
 */
export function requantizeLayer(
  { layer, weight, matrix, before, asked }: {
    layer: QuantizedLayer;
    weight: SourceTensor;
    matrix: MatrixSource;
    before: LayerObject;
    asked: ConvertOptions | null;
  },
  inputScale: readonly Operation[],
): LayerMigration {
  const { rows, cols } = matrix;
  const { name = weight.name, shape = weight.shape } = layer.found ?? {};
  const wanted = asked === null ? "" : schemeAskedFor(layer, matrix, asked);
  const scheme = typeof wanted === "string"
    ? schemeAskedFor(layer, matrix, DEFAULT_CONVERT_OPTIONS) as Scheme
    : wanted;
  const { linearDtype } = asked ?? DEFAULT_CONVERT_OPTIONS;
  const grid = layoutOfGrid(scheme, { rows, cols, linearDtype });
  const experts = shape.length > 2 ? { num_experts: shape[0] } : {};
  const kept = Object.entries(layer.marker ?? {}).filter(([key]) => !STORING_KEYS.includes(key));
  const object: LayerObject = {
    ...Object.fromEntries(kept),
    ...markerOf(scheme, { fullPrecisionMatrixMult: false }, { grid: grid?.marker }),
    ...experts,
  };
  const was = before["format"] ?? layer.kind?.title ?? weight.dtype;
  const beside = grid === null
    ? [scaleOf(layer, shape)]
    : grid.beside.map(({ part, dtype, shape, content }) => ({
      info: { name: partName(layer.layer, part), dtype, shape },
      content: typeof content === "string" ? content : bytesOf(content),
    }));
  return {
    layer,
    matrix,
    object,
    ...(asked !== null && typeof wanted === "string" ? { kept: wanted } : {}),
    operations: [
      writeMarker(layer, object, `format ${was} -> ${object["format"]}`),
      {
        kind: "requantize",
        tensor: weight.name,
        weight: { name, ...(grid?.codes ?? { dtype: "I8", shape }) },
        scheme,
        beside,
        place: layer.layer,
        detail: `dequantized and rounded once more (${howOf(scheme, asked)})`,
      },
      ...removedParts(layer, beside.map(({ info }) => info.name), grid === null),
      ...(grid === null ? inputScale : []),
    ],
  };
}

/** The tensors that mean nothing any more. */
function removedParts(
  { layer, markerName, partNames }: QuantizedLayer,
  written: readonly string[],
  isInt8: boolean,
): Operation[] {
  const inputScales = isInt8 ? INPUT_SCALES.map((part) => partName(layer, part)) : [];
  const staying = new Set([...written, markerName, ...inputScales]);
  return partNames.filter((part) => !staying.has(part)).map((tensor) => ({
    kind: "remove",
    tensor,
    place: layer,
    detail: `${tensor} removed`,
  }));
}

/** The scales of rows of INT8. */
function scaleOf(
  { layer }: QuantizedLayer,
  shape: readonly number[],
): { info: TensorInfo; content: "scales" } {
  const name = partName(layer, "weight_scale");
  return { info: { name, dtype: "F32", shape: [...shape.slice(0, -1), 1] }, content: "scales" };
}

function howOf({ levels, floats, convrotGroupSize }: Scheme, asked: ConvertOptions | null): string {
  const what = levels === undefined && floats === undefined ? "rows" : asked!.output;
  return convrotGroupSize === null ? what : `${what}, convrot ${convrotGroupSize}`;
}
