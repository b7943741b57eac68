/**
 * INT8 codes of a weight after a Hadamard transform of both sides, as `--quip-store-transformed` writes it:
 * padded to powers of 2, with the random signs beside it.
 */

import type { SourceTensor } from "../core/tensor.ts";
import { paddedSize } from "../quant/incoherence.ts";
import { broken, type Format, type LayerTensors, type Recognised, type Refusal } from "./format.ts";
import {
  decodeInt8,
  INT8_PARTS,
  isTransformed,
  recogniseInt8,
  SMOOTH_FACTORS,
  TRANSFORM_PARTS,
} from "./int8_layer.ts";
import { filledColumns } from "./filled_columns.ts";
import { int8Axiswise } from "./int8_axiswise.ts";
import { tensorwiseProblems } from "./int8_tensorwise.ts";
import { elementsOf, sameShape, shown } from "./layer_shapes.ts";
import type { MatrixSource } from "./matrix_source.ts";

/** Its marker: the grid of the codes, as `--target comfyui` and `ctq` name it. */
const MARKED: readonly string[] = ["int8_tensorwise", "int8_axiswise"];

export const int8Transformed: Format = {
  id: "int8_transformed",
  title: "INT8 of the Hadamard transform (QuIP)",
  parts: [...INT8_PARTS, ...TRANSFORM_PARTS],
  recognise: (layer) => {
    const { weight } = layer;
    if (weight === null || !isTransformed(layer)) return null;
    if (layer.format !== null && !MARKED.includes(layer.format)) return null;
    const found = recogniseInt8(layer, weight);
    const size = weight.shape.length === 2 ? sizeOf(layer, weight) : null;
    return size === null ? found : { ...found, shape: size };
  },
  decode,
  problems: (report, layer, found, context) => {
    // A marker that the stock loader does not know stops it before anything else.
    if (layer.format === "int8_axiswise") int8Axiswise.problems(report, layer, found, context);
    else tensorwiseProblems(report, layer, found);
  },
  words: () => ["int8_tensorwise", ""],
};

function decode(layer: LayerTensors, found: Recognised): MatrixSource | Refusal {
  const { codes } = found;
  const matrix = decodeInt8(layer, found, { tiles: false });
  if ("why" in matrix) return matrix;
  const { rows, cols } = matrix;
  if (matrix.convrotGroupSize !== null) {
    return broken(codes, "it has a transform (hadamard_quip) beside a rotation");
  }
  const signRow = layer.parts.get("sign_row"), signCol = layer.parts.get("sign_col");
  if (signRow === undefined || signCol === undefined) {
    return broken(codes, "its codes are transformed, and sign_row or sign_col is missing");
  }
  for (const [sign, size] of [[signRow, rows], [signCol, cols]] as const) {
    if (sign.dtype !== "F32" || !sameShape(sign.shape, [size])) {
      return broken(sign, `it is ${shown(sign)}, not F32 [${size}]`);
    }
  }
  if (codes.shape.length !== 2 || paddedSize(rows) !== rows || paddedSize(cols) !== cols) {
    const sizes = codes.shape.join(", ");
    return broken(codes, `transformed codes have powers of 2 as sizes, not [${sizes}]`);
  }
  if (found.shape === undefined) {
    return {
      ...broken(
        codes,
        `its codes are padded to [${rows}, ${cols}], and nothing says the size before: it has no bias, and its marker no ` +
          "out_features",
      ),
      hint:
        "`--like FILE` or `--source FILE` with a file of the same model says the size of its layers",
    };
  }
  const [ownRows = rows, ownCols = cols] = found.shape;
  if (!(isSize(ownRows, rows) && isSize(ownCols, cols))) {
    return broken(
      codes,
      `its size before padding is [${found.shape.join(", ")}], its codes are [${rows}, ${cols}]`,
    );
  }
  const at = ({ file, offsetBytes }: typeof codes) => ({ file, offsetBytes });
  return {
    ...matrix,
    rows: ownRows,
    cols: ownCols,
    transform: { rows, cols, signRow: at(signRow), signCol: at(signCol) },
  };
}

/** The size before padding; null if nothing says the rows. */
function sizeOf(layer: LayerTensors, codes: SourceTensor): [number, number] | null {
  const [rows = 1, cols = 1] = codes.shape;
  const said = (key: string, part: string, padded: number): number | null => {
    const value = layer.marker?.[key];
    if (typeof value === "number") return value;
    const size = layer.integer(part);
    // The reference writes the padded size there, which says nothing.
    return size !== null && size !== padded ? size : null;
  };
  const bias = layer.bias?.shape.length === 1 ? layer.bias.shape[0]! : null;
  const smooth = layer.parts.get(SMOOTH_FACTORS)?.shape[0] ?? null;
  const known = layer.knownShape;
  const ownRows = said("out_features", "hadamard_size_out", rows) ?? bias ?? known?.[0] ?? null;
  if (ownRows === null) return null;
  const ownCols = said("in_features", "hadamard_size_in", cols) ?? smooth ?? known?.[1];
  return [ownRows, ownCols ?? columnsByValue(layer, codes)];
}

/** Nothing says the columns: their values do. */
function columnsByValue(layer: LayerTensors, codes: SourceTensor): number {
  const [rows = 1, cols = 1] = codes.shape, scale = layer.parts.get("weight_scale");
  const perRow = scale?.dtype === "F32" && elementsOf(scale.shape) === rows;
  if (!perRow || codes.dtype !== "I8" || paddedSize(cols) !== cols || paddedSize(rows) !== rows) {
    return cols;
  }
  const bytes = layer.bytesOf(codes), scales = layer.bytesOf(scale!);
  const view = new DataView(scales.buffer, scales.byteOffset, scales.byteLength);
  return filledColumns(new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length), {
    rows,
    cols,
    scaleOf: (row) => view.getFloat32(4 * row, true),
  });
}

/** Whether `padded` is what `size` is padded to. */
function isSize(size: number, padded: number): boolean {
  return Number.isInteger(size) && size >= 1 && paddedSize(size) === padded;
}
