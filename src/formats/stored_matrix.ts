/**
 * How the values of a stored tensor are read, whatever its file says: plain floats, or codes with their
 * scales and their rotation. Convert (`--requantize`), `dequantize` and `verify` read weights by this.
 */

import { type DType, type FloatDType, isFloatDType } from "../core/dtype.ts";
import { FormatError, UnsupportedError } from "../core/errors.ts";
import type { SourceTensor } from "../core/tensor.ts";
import type { ModelSource } from "../safetensors/model_source.ts";
import type { QuantizedLayer } from "./quant_layers.ts";
import { paddedSize } from "../quant/incoherence.ts";
import type { MatrixSource, SourceScale, SourceTransform } from "./matrix_source.ts";

/** How {@link storedMatrix} numbers files. */
export interface StoredMatrixOptions {
  /** Number that the model's first file has in the run: the count of files before it. Default: 0. */
  readonly fileOffset?: number;
}

/** F32 `[K]` beside a weight: what its columns were multiplied by, to be divided out of its inputs. */
export const SMOOTH_FACTORS = "smooth_factors";

/** Tensors beside a weight that its stored values depend on, and that no `MatrixSource` can express. */
const FOREIGN_PARTS: Readonly<Record<string, string>> = {
  pre_quant_scale: "its columns are multiplied by pre_quant_scale",
};

/** Tensors beside a weight that say how it is stored, and mean nothing without that. */
export const LAYER_PARTS: readonly string[] = Object.freeze([
  "comfy_quant",
  "weight_scale",
  "weight_scale_2",
  "scale_weight",
  "scale_input",
  "input_scale",
  SMOOTH_FACTORS,
  "hadamard_quip",
  "hadamard_size_out",
  "hadamard_size_in",
  "sign_row",
  "sign_col",
]);

/** What the values of each format are stored as; a format that is not here has a layout of its own. */
const FORMAT_DTYPES: Readonly<Record<string, DType>> = {
  int8_tensorwise: "I8",
  int8_axiswise: "I8",
  int8_blockwise: "I8",
  float8_e4m3fn: "F8_E4M3",
  float8_e4m3fn_rowwise: "F8_E4M3",
  float8_e4m3fn_blockwise: "F8_E4M3",
  float8_e5m2: "F8_E5M2",
};

/**
 * Returns how the values of `tensor` are read in original space.
 *
 * A quantized tensor `[..., N, K]` is a matrix of K columns; of a float tensor the 2-D ones are read as
 * they are, others as one row of all elements. Scales may be one value, `[N]`, `[N, 1]`, 2-D tiles
 * `[N / b, K / b]` or, per row and group of columns, `[N, K / b, 1]`.
 *
 * @param layer what is known of the layer that `tensor` is the weight of; null for any other tensor.
 * @throws FormatError where marker, scale and weight do not fit together; UnsupportedError where the
 *   values cannot be restored from what is stored.
 */
export function storedMatrix(
  model: ModelSource,
  tensor: SourceTensor,
  layer: QuantizedLayer | null,
  { fileOffset = 0 }: StoredMatrixOptions = {},
): MatrixSource {
  const { name, offsetBytes } = tensor;
  const file = tensor.file + fileOffset;
  if (layer === null) {
    return {
      name,
      file,
      offsetBytes,
      dtype: floatDType(model, tensor),
      ...plainShape(tensor.shape),
      scale: null,
      convrotGroupSize: null,
    };
  }
  const codes = codesDType(model, tensor, layer);
  const { rows, cols } = codesShape(tensor.shape);
  const scale = scaleOf(model, tensor, { layer, rows, cols, fileOffset });
  const group = layer.convrotGroupSize;
  if (group !== null && cols % group !== 0) {
    throw fault(model, name, `its rotation group ${group} does not divide its ${cols} columns`);
  }
  const matrix = {
    name,
    file,
    offsetBytes,
    dtype: codes,
    rows,
    cols,
    scale,
    convrotGroupSize: group,
    ...smoothFactorsOf(model, { layer, cols, fileOffset }),
  };
  const transform = transformOf(model, { layer, rows, cols, fileOffset });
  if (transform === null) return matrix;
  if (codes !== "I8" || group !== null) {
    throw fault(
      model,
      name,
      "it has a transform (hadamard_quip) beside a rotation or other codes than I8",
    );
  }
  const [ownRows = rows, ownCols = cols] = originalShape(model, tensor, layer);
  return { ...matrix, rows: ownRows, cols: ownCols, transform };
}

/** Where the factors are that the layer's columns were multiplied by, if it has any. */
function smoothFactorsOf(
  model: ModelSource,
  { layer, cols, fileOffset }: { layer: QuantizedLayer; cols: number; fileOffset: number },
): Pick<MatrixSource, "smoothFactors"> {
  const tensor = tensorsByName(model).get(partName(layer.layer, SMOOTH_FACTORS));
  if (tensor === undefined) return {};
  if (tensor.dtype !== "F32" || !sameShape(tensor.shape, [cols])) {
    const found = `${tensor.dtype} [${tensor.shape.join(", ")}]`;
    throw fault(model, tensor.name, `it is ${found}, not F32 [${cols}]`);
  }
  return { smoothFactors: { file: tensor.file + fileOffset, offsetBytes: tensor.offsetBytes } };
}

/** The transform of the layer's codes, `[rows, cols]` as stored; null where there is none. */
function transformOf(
  model: ModelSource,
  { layer, rows, cols, fileOffset }: {
    layer: QuantizedLayer;
    rows: number;
    cols: number;
    fileOffset: number;
  },
): SourceTransform | null {
  const tensors = tensorsByName(model);
  const part = (name: string) => tensors.get(partName(layer.layer, name));
  const signRow = part("sign_row"), signCol = part("sign_col");
  if ([signRow, signCol, part("hadamard_quip")].every((tensor) => tensor === undefined)) {
    return null;
  }
  const weight = layer.weightName ?? layer.layer;
  if (signRow === undefined || signCol === undefined) {
    throw fault(model, weight, "its codes are transformed, and sign_row or sign_col is missing");
  }
  for (const [sign, size] of [[signRow, rows], [signCol, cols]] as const) {
    if (sign.dtype !== "F32" || !sameShape(sign.shape, [size])) {
      throw fault(
        model,
        sign.name,
        `it is ${sign.dtype} [${sign.shape.join(", ")}], not F32 [${size}]`,
      );
    }
  }
  if (paddedSize(rows) !== rows || paddedSize(cols) !== cols) {
    throw fault(
      model,
      weight,
      `transformed codes have powers of 2 as sizes, not [${rows}, ${cols}]`,
    );
  }
  const at = ({ file, offsetBytes }: SourceTensor) => ({ file: file + fileOffset, offsetBytes });
  return { rows, cols, signRow: at(signRow), signCol: at(signCol) };
}

/**
 * Returns the shape of a weight in original space. Codes that are stored transformed have padded sizes; the
 * marker says those before, or they are the padded ones.
 */
export function originalShape(
  model: ModelSource,
  { shape }: SourceTensor,
  layer: QuantizedLayer | null,
): readonly number[] {
  if (layer === null || shape.length !== 2) return shape;
  if (!tensorsByName(model).has(partName(layer.layer, "sign_row"))) return shape;
  const [rows = 1, cols = 1] = shape;
  return [
    sizeWithin(layer.marker?.["out_features"], rows),
    sizeWithin(layer.marker?.["in_features"], cols),
  ];
}

function sizeWithin(value: unknown, most: number): number {
  return typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= most
    ? value
    : most;
}

function floatDType(model: ModelSource, tensor: SourceTensor): FloatDType {
  if (isFloatDType(tensor.dtype)) return tensor.dtype;
  throw new UnsupportedError(
    `Cannot read the values of tensor ${JSON.stringify(tensor.name)} of ` +
      `${JSON.stringify(model.path)}: ${tensor.dtype} holds no floats, and it has no scale`,
  );
}

/** Returns what the codes of a quantized weight are, after checking what its file says of it. */
function codesDType(
  model: ModelSource,
  { name, dtype, shape }: SourceTensor,
  layer: QuantizedLayer,
): FloatDType | "I8" {
  const { format } = layer;
  if (layer.problem !== null) throw fault(model, name, layer.problem);
  const wanted = format === null ? undefined : FORMAT_DTYPES[format];
  if (format !== null && wanted === undefined) {
    throw cannotRestore(model, name, `the format ${JSON.stringify(format)} is not known here`);
  }
  if (wanted !== undefined && dtype !== wanted) {
    throw fault(model, name, `it is ${dtype}, its marker says ${format}, which is ${wanted}`);
  }
  if (dtype !== "I8" && !isFloatDType(dtype)) {
    throw cannotRestore(model, name, `${dtype} codes are not known here`);
  }
  if (dtype === "I8" && shape.length < 2) {
    throw fault(model, name, `it has the shape [${shape.join(", ")}], not rows and columns`);
  }
  const tensors = tensorsByName(model);
  for (const [part, why] of Object.entries(FOREIGN_PARTS)) {
    if (tensors.has(partName(layer.layer, part))) throw cannotRestore(model, name, why);
  }
  return dtype;
}

/** Returns where the scales are and what each of them covers; null where the values have none. */
function scaleOf(
  model: ModelSource,
  tensor: SourceTensor,
  { layer, rows, cols, fileOffset }: {
    layer: QuantizedLayer;
    rows: number;
    cols: number;
    fileOffset: number;
  },
): SourceScale | null {
  if (layer.scaleName === null) {
    if (tensor.dtype !== "I8") return null; // floats as they stand
    throw fault(model, tensor.name, "it is I8 and has no weight_scale");
  }
  const scale = tensorsByName(model).get(layer.scaleName)!;
  if (!isFloatDType(scale.dtype)) {
    throw fault(model, scale.name, `${scale.dtype} scales cannot be read`);
  }
  const group = scaleGroup(scale.shape, {
    rows,
    cols,
    leading: tensor.shape.slice(0, -1),
    format: layer.format,
    groupSize: layer.marker?.["group_size"],
  });
  if (group === null) {
    throw fault(
      model,
      scale.name,
      `scales of shape [${scale.shape.join(", ")}] do not fit the ${
        layer.format ?? tensor.dtype
      } weight [${tensor.shape.join(", ")}]`,
    );
  }
  return {
    file: scale.file + fileOffset,
    offsetBytes: scale.offsetBytes,
    dtype: scale.dtype,
    ...group,
  };
}

/** What {@link scaleGroup} matches a scale's shape with. */
interface ScaledWeight {
  readonly rows: number;
  readonly cols: number;
  /** The weight's shape without its last size. */
  readonly leading: readonly number[];
  readonly format: string | null;
  /** `group_size` of the marker. */
  readonly groupSize: unknown;
}

/** Returns the rectangle that one scale covers; null where the shape does not fit the weight. */
function scaleGroup(
  shape: readonly number[],
  { rows, cols, leading, format, groupSize }: ScaledWeight,
): { groupRows: number; groupCols: number } | null {
  const count = shape.reduce((product, size) => product * size, 1);
  if (count === 1) return { groupRows: Math.max(1, rows), groupCols: Math.max(1, cols) };
  const perRow = sameShape(shape, [rows]) || sameShape(shape, [...leading, 1]) ||
    sameShape(shape, [rows, 1]);
  if (perRow) return { groupRows: 1, groupCols: Math.max(1, cols) };
  // Only a format that says so has tiles: [1, N] is a transposed mistake, not a row of tiles.
  const [a = 0, b = 0, c = 0] = shape;
  const isBlock = format?.endsWith("_blockwise") === true || format === null;
  if (!isBlock || a === 0 || b === 0 || cols % b !== 0) return null;
  if (shape.length === 3) {
    return a === rows && c === 1 && fits(groupSize, cols / b)
      ? { groupRows: 1, groupCols: cols / b }
      : null;
  }
  if (shape.length !== 2 || rows % a !== 0) return null;
  const [groupRows, groupCols] = [rows / a, cols / b];
  return groupRows === groupCols && fits(groupSize, groupCols) ? { groupRows, groupCols } : null;
}

/** Whether a marker's `group_size`, where it names one, is `size`. */
function fits(groupSize: unknown, size: number): boolean {
  return groupSize === undefined || groupSize === size;
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

function plainShape(shape: readonly number[]): { rows: number; cols: number } {
  const [rows = 1, cols = 1] = shape;
  if (shape.length === 2) return { rows, cols };
  return { rows: 1, cols: shape.reduce((product, size) => product * size, 1) };
}

function codesShape(shape: readonly number[]): { rows: number; cols: number } {
  if (shape.length < 2) return plainShape(shape);
  const cols = shape[shape.length - 1]!;
  return { rows: shape.slice(0, -1).reduce((product, size) => product * size, 1), cols };
}

/** Returns the name of a tensor that belongs to `layer`. */
export function partName(layer: string, part: string): string {
  return `${layer}.${part}`;
}

const INDEXES = new WeakMap<ModelSource, ReadonlyMap<string, SourceTensor>>();

/** Returns the tensors of a model by name; made once per model. */
export function tensorsByName(model: ModelSource): ReadonlyMap<string, SourceTensor> {
  const known = INDEXES.get(model);
  if (known !== undefined) return known;
  const index = new Map(model.tensors.map((tensor) => [tensor.name, tensor]));
  INDEXES.set(model, index);
  return index;
}

function fault(model: ModelSource, tensor: string, rule: string): FormatError {
  return new FormatError(rule, {
    path: model.path,
    tensor,
    hint: "`quantsmith verify` tells what is wrong with the file",
  });
}

function cannotRestore(model: ModelSource, tensor: string, why: string): UnsupportedError {
  return new UnsupportedError(
    `Cannot restore tensor ${JSON.stringify(tensor)} of ${JSON.stringify(model.path)}: ${why}`,
  );
}
