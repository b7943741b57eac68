/** `convrot_w4a4`: rotated weights in 4 bits, two to a byte, with a scale per row. */

import { noRotationGroup } from "../quant/rotation_groups.ts";
import { broken, type Format, type LayerTensors, type Recognised, type Refusal } from "./format.ts";
import { shown } from "./layer_shapes.ts";
import { type MatrixSource, packedMatrix } from "./matrix_source.ts";
import { isPowerOf4 } from "./marker_reader.ts";
import { byCode } from "./packed_codes.ts";
import { plainGroup } from "./scale_groups.ts";

/** Columns that the kernel multiplies at a time. */
const KERNEL_COLS = 64;

/** Two's complement. */
const LEVELS = byCode(16, (code) => code < 8 ? code : code - 16);

export const convrotW4a4: Format = {
  id: "convrot_w4a4",
  title: "ConvRot W4A4",
  stockSince: "0.28.0",
  runsOn: "NVIDIA from Turing (SM 7.5)",
  parts: ["weight_scale"],
  recognise: ({ format, weight, parts, marker }) => {
    if (format !== "convrot_w4a4" || weight === null) return null;
    const [rows = 1, bytes = 0] = weight.shape;
    const group = marker?.["convrot_groupsize"] ?? 256;
    return {
      codes: weight,
      scale: parts.get("weight_scale"),
      shape: [rows, 2 * bytes],
      ...(isPowerOf4(group) ? { convrotGroupSize: group } : {}),
    };
  },
  decode,
  recipe: ({ marker }, { convrotGroupSize = null }) => ({
    ...{ format: "convrot_w4a4", convrotGroupSize, scaling: "row" },
    grid: {
      ...{ output: "w4a4", groupSize: 16 },
      linearDtype: marker?.["linear_dtype"] === "int8" ? "int8" : "int4",
      codebook: "default",
    },
  }),
  problems: (report, layer, found) => {
    const refusal = decode(layer, found);
    if ("why" in refusal) {
      const isMissing = found.scale === undefined;
      report(
        isMissing
          ? "scale-missing"
          : refusal.tensor === found.codes.name
          ? "weight-shape"
          : "scale-shape",
        isMissing
          ? "ValueError at load: no scale"
          : "loads, ValueError at the first forward or garbage",
        `${refusal.tensor}: ${refusal.why}`,
      );
    }
    const linear = layer.marker?.["linear_dtype"] ?? "int4";
    if (linear !== "int4" && linear !== "int8") {
      report(
        "marker-fields",
        "loads, ValueError at the first forward",
        `linear_dtype is ${JSON.stringify(linear)}, not int4 or int8`,
      );
    }
  },
  writeGrid: {
    outputs: ["w4a4"],
    rotates: true,
    levels: (_, { cols, rotation }) => {
      if (rotation === null) return noRotationGroup(cols);
      if (cols % KERNEL_COLS !== 0) return `${cols} columns are no multiple of ${KERNEL_COLS}`;
      return { kind: "int4", bits: 4 };
    },
    layout: (_, { rows, cols, rotation, linearDtype }) => ({
      codes: { dtype: "I8", shape: [rows, cols / 2] },
      beside: [{ part: "weight_scale", dtype: "F32", shape: [rows], content: "scales" }],
      marker: {
        convrot_groupsize: rotation!,
        ...(linearDtype === "int4" ? {} : { linear_dtype: linearDtype }),
      },
    }),
  },
};

function decode(layer: LayerTensors, found: Recognised): MatrixSource | Refusal {
  const { codes, scale, shape: [rows = 1, cols = 1] = [], convrotGroupSize: group } = found;
  if ((codes.dtype !== "I8" && codes.dtype !== "U8") || codes.shape.length !== 2) {
    return broken(codes, `it is ${shown(codes)}, convrot_w4a4 needs I8 [N, K / 2]`);
  }
  if (scale === undefined) return broken(codes, "it has no weight_scale");
  if (group === undefined || group === null) {
    const asked = JSON.stringify(layer.marker?.["convrot_groupsize"]);
    return broken(codes, `its convrot_groupsize is no power of 4: ${asked}`);
  }
  if (cols % group !== 0) {
    return broken(codes, `its rotation group ${group} does not divide its ${cols} columns`);
  }
  if (cols % KERNEL_COLS !== 0) {
    return broken(codes, `its ${cols} columns are no multiple of ${KERNEL_COLS}`);
  }
  const isFit = plainGroup(scale.shape, { rows, cols, leading: [rows] })?.groupRows === 1;
  if (scale.dtype !== "F32" || !isFit) {
    return broken(scale, `it is ${shown(scale)}, not F32 [${rows}]`);
  }
  return packedMatrix(codes, { rows, cols, convrotGroupSize: group }, {
    rowBytes: cols / 2,
    fields: [{ firstByte: 0, bits: 4, highFirst: false }],
    levels: LEVELS,
    levelCount: 16,
    scales: [{
      file: scale.file,
      offsetBytes: scale.offsetBytes,
      dtype: "F32",
      groupRows: 1,
      groupCols: cols,
    }],
  });
}
