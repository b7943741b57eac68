/** `mxfp8`: E4M3 with the exponent of a power of 2 per 32 columns, in the tiles that the hardware reads. */

import { floatRecipe } from "./outputs.ts";
import { broken, type Format, type LayerTensors, type Recognised, type Refusal } from "./format.ts";
import { codesShape, roundUp, sameShape, shown } from "./layer_shapes.ts";
import { type MatrixSource, packedMatrix } from "./matrix_source.ts";
import { E4M3_LEVELS } from "./packed_codes.ts";
import { apartTiles, ownRows, tiledScales, tiledShape } from "./padded_size.ts";

const GROUP = 32;

export const mxfp8: Format = {
  id: "mxfp8",
  title: "MXFP8",
  stockSince: "0.18.0",
  runsOn: "NVIDIA from Blackwell (SM 10)",
  parts: ["weight_scale"],
  recognise: (layer) => {
    const { weight, format, parts } = layer;
    if (format !== "mxfp8" || weight === null) return null;
    return { codes: weight, scale: parts.get("weight_scale"), shape: shapeOf(layer, weight.shape) };
  },
  decode,
  recipe: () => floatRecipe("mxfp8", "mxfp8"),
  problems: (report, layer, found) => {
    const refusal = faultOf(found);
    if (refusal === null) return;
    const isMissing = layer.parts.get("weight_scale") === undefined;
    const rule = isMissing
      ? "scale-missing"
      : refusal.tensor === found.codes.name
      ? "weight-dtype"
      : "scale-shape";
    const effect = isMissing
      ? "fails at load or at the first forward: no scale"
      : "loads, fails or computes garbage";
    report(rule, effect, `${refusal.tensor}: ${refusal.why}`);
  },
  writeGrid: {
    outputs: ["mxfp8"],
    rotates: false,
    levels: (_, { cols }) =>
      cols % GROUP === 0
        ? { kind: "e4m3Groups" }
        : `groups of ${GROUP} do not divide ${cols} columns`,
    layout: (_, { rows, cols }) => ({
      codes: { dtype: "F8_E4M3", shape: [roundUp(rows, GROUP), cols] },
      beside: [{
        part: "weight_scale",
        dtype: "U8",
        shape: tiledShape(roundUp(rows, GROUP), cols / GROUP),
        content: "scales",
      }],
      marker: {},
    }),
  },
};

function decode(_: LayerTensors, found: Recognised): MatrixSource | Refusal {
  const { codes, scale, shape = codes.shape } = found;
  const fault = faultOf(found);
  if (fault !== null || scale === undefined) {
    return fault ?? broken(codes, "it has no weight_scale");
  }
  const stored = codes.shape[codes.shape.length - 1] ?? 1, { rows, cols } = codesShape(shape);
  const apart = apartTiles(codes, tiledScales(codes.shape, stored / GROUP).height);
  if (apart !== null) return apart;
  return packedMatrix(codes, { rows, cols, convrotGroupSize: null }, {
    rowBytes: stored,
    fields: [{ firstByte: 0, bits: 8, highFirst: false }],
    levels: E4M3_LEVELS,
    levelCount: 256,
    scales: [{
      file: scale.file,
      offsetBytes: scale.offsetBytes,
      dtype: "F8_E8M0",
      groupRows: 1,
      groupCols: GROUP,
      tiledAcross: tiledShape(1, stored / GROUP)[1],
    }],
  });
}

/** The mismatch; null: nothing. */
function faultOf({ codes, scale }: Recognised): Refusal | null {
  const cols = codes.shape[codes.shape.length - 1] ?? 0, rank = codes.shape.length;
  if (codes.dtype !== "F8_E4M3" || (rank !== 2 && rank !== 3)) {
    return broken(codes, `it is ${shown(codes)}, mxfp8 needs F8_E4M3 [N, K]`);
  }
  if (cols % GROUP !== 0) return broken(codes, `${cols} columns are not whole groups of ${GROUP}`);
  if (scale === undefined) return broken(codes, "it has no weight_scale");
  const { wanted } = tiledScales(codes.shape, cols / GROUP);
  const isBytes = scale.dtype === "U8" || scale.dtype === "F8_E8M0";
  if (isBytes && sameShape(scale.shape, wanted)) return null;
  return broken(scale, `it is ${shown(scale)}, not U8 [${wanted.join(", ")}]`);
}

/** Rows before padding, if the bias says them. */
function shapeOf(layer: LayerTensors, shape: readonly number[]): number[] {
  const [rows = 1, cols = 1] = shape;
  if (shape.length === 3) return [...shape];
  return [ownRows(layer, rows, (own) => roundUp(own, GROUP)), layer.knownShape?.[1] ?? cols];
}
