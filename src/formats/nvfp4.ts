/** `nvfp4`: E2M1 with an E4M3 scale per 16 columns, in the tiles that the hardware reads, and one for all. */

import { floatRecipe } from "./outputs.ts";
import { SMOOTHED, START_FROM_ORIGINAL } from "./advice.ts";
import {
  broken,
  type Format,
  type LayerTensors,
  type Recognised,
  type Refusal,
  unreadable,
} from "./format.ts";
import { codesShape, isOneValue, roundUp, sameShape, shown } from "./layer_shapes.ts";
import { type MatrixSource, packedMatrix } from "./matrix_source.ts";
import { E2M1_LEVELS } from "./packed_codes.ts";
import { apartTiles, ownRows, tiledScales, tiledShape } from "./padded_size.ts";

/** Columns under one scale. */
export const NVFP4_GROUP = 16;

export const nvfp4: Format = {
  id: "nvfp4",
  title: "NVFP4",
  stockSince: "0.8.0",
  runsOn: "NVIDIA from Blackwell (SM 10), not AMD",
  parts: ["weight_scale", "weight_scale_2", "pre_quant_scale"],
  recognise: (layer) => {
    const { weight, format, parts } = layer;
    if (format !== "nvfp4" || weight === null) return null;
    const rows = weight.shape[weight.shape.length - 2] ?? 1;
    if (weight.shape.length === 3) {
      const shape = [...weight.shape.slice(0, 2), columnsOf(weight)];
      return { codes: weight, scale: parts.get("weight_scale"), shape };
    }
    const own = ownRows(layer, rows, (size) => roundUp(size, NVFP4_GROUP));
    return {
      codes: weight,
      scale: parts.get("weight_scale"),
      shape: [own, layer.knownShape?.[1] ?? columnsOf(weight)],
    };
  },
  decode: (layer, found) => {
    const { codes, scale, shape = [] } = found;
    const fault = faultOf(layer, found);
    if (fault !== null || scale === undefined) {
      return fault?.refusal ?? broken(codes, "it has no weight_scale");
    }
    const smooth = layer.parts.get("pre_quant_scale");
    if (smooth !== undefined) {
      return unreadable(codes, SMOOTHED, START_FROM_ORIGINAL);
    }
    const across = columnsOf(codes) / NVFP4_GROUP;
    const apart = apartTiles(codes, tiledScales(codes.shape, across).height);
    if (apart !== null) return apart;
    return nvfp4Matrix(layer, found, {
      shape,
      highFirst: true,
      tiledAcross: tiledShape(1, across)[1],
    });
  },
  recipe: () => floatRecipe("nvfp4", "nvfp4"),
  problems: (report, layer, found) => {
    const fault = faultOf(layer, found);
    if (fault === null) return;
    const { refusal: { tensor, why }, rule } = fault;
    const effect = rule === "scale-missing"
      ? "fails at load or at the first forward: no scale"
      : "loads, fails or computes garbage";
    report(rule, effect, rule === "scale-missing" ? why : `${tensor}: ${why}`);
  },
  writeGrid: {
    outputs: ["nvfp4"],
    rotates: false,
    levels: (_, { cols }) =>
      cols % NVFP4_GROUP === 0
        ? { kind: "e2m1Groups" }
        : `groups of ${NVFP4_GROUP} do not divide ${cols} columns`,
    layout: (_, { rows, cols }) => ({
      codes: { dtype: "U8", shape: [roundUp(rows, NVFP4_GROUP), cols / 2] },
      beside: [
        {
          part: "weight_scale",
          dtype: "F8_E4M3",
          shape: tiledShape(roundUp(rows, NVFP4_GROUP), cols / NVFP4_GROUP),
          content: "scales",
        },
        { part: "weight_scale_2", dtype: "F32", shape: [], content: "wholeScale" },
      ],
      marker: {},
    }),
  },
};

/** How many columns the codes of two per byte have. */
export function columnsOf({ dtype, shape }: Recognised["codes"]): number {
  const stored = shape[shape.length - 1] ?? 0;
  return dtype === "F4" ? stored : 2 * stored;
}

/** E2M1 with scales per 16 columns and one for all. */
export function nvfp4Matrix(
  { parts }: LayerTensors,
  { codes, scale }: Recognised,
  { shape, highFirst, tiledAcross }: {
    shape: readonly number[];
    highFirst: boolean;
    tiledAcross?: number;
  },
): MatrixSource {
  const { rows, cols } = codesShape(shape);
  const all = parts.get("weight_scale_2")!;
  return packedMatrix(codes, { rows, cols, convrotGroupSize: null }, {
    rowBytes: columnsOf(codes) / 2,
    fields: [{ firstByte: 0, bits: 4, highFirst }],
    levels: E2M1_LEVELS,
    levelCount: 16,
    scales: [{
      file: scale!.file,
      offsetBytes: scale!.offsetBytes,
      dtype: "F8_E4M3",
      groupRows: 1,
      groupCols: NVFP4_GROUP,
      ...(tiledAcross === undefined ? {} : { tiledAcross }),
    }, {
      file: all.file,
      offsetBytes: all.offsetBytes,
      dtype: "F32",
      // One for all, or one per expert of a bank.
      groupRows: isOneValue(all.shape) ? Math.max(1, rows) : shape[shape.length - 2]!,
      groupCols: Math.max(1, cols),
    }],
  });
}

/** The mismatch, and the rule it breaks; null: nothing. */
function faultOf(
  { parts }: LayerTensors,
  { codes, scale }: Recognised,
): { rule: string; refusal: Refusal } | null {
  const all = parts.get("weight_scale_2");
  if (
    (codes.dtype !== "U8" && codes.dtype !== "F4") ||
    (codes.shape.length !== 2 && codes.shape.length !== 3)
  ) {
    const refusal = broken(codes, `it is ${shown(codes)}, nvfp4 needs U8 [N, K / 2]`);
    return { rule: "weight-dtype", refusal };
  }
  if (scale === undefined) {
    return { rule: "scale-missing", refusal: broken(codes, "it has no weight_scale") };
  }
  if (all === undefined) {
    return { rule: "scale-missing", refusal: broken(codes, "it has no weight_scale_2") };
  }
  const cols = columnsOf(codes);
  if (cols % NVFP4_GROUP !== 0) {
    const refusal = broken(codes, `${cols} columns are not whole groups of ${NVFP4_GROUP}`);
    return { rule: "weight-shape", refusal };
  }
  const { wanted } = tiledScales(codes.shape, cols / NVFP4_GROUP);
  const isBytes = scale.dtype === "F8_E4M3" || scale.dtype === "U8";
  if (!isBytes || !sameShape(scale.shape, wanted)) {
    const refusal = broken(scale, `it is ${shown(scale)}, not F8_E4M3 [${wanted.join(", ")}]`);
    return { rule: "scale-shape", refusal };
  }
  const isPerExpert = codes.shape.length === 3 && all.shape[0] === codes.shape[0] &&
    isOneValue(all.shape.slice(1));
  if (all.dtype !== "F32" || !(isOneValue(all.shape) || isPerExpert)) {
    return { rule: "scale-shape", refusal: broken(all, `it is ${shown(all)}, not F32 []`) };
  }
  return null;
}
