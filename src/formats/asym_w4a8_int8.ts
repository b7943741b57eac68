/**
 * `asym_w4a8_int8`: rotated weights in 4 or 6 bits ("W4A8", "W6A8"), which the runtime expands to int8. The
 * final grid is that of the int8 values: level times the scale of the group, rounded, times that of the row.
 */

import type { SourceTensor } from "../core/tensor.ts";
import { broken, type Format, type LayerTensors, type Recognised, type Refusal } from "./format.ts";
import { elementsOf, sameShape, shown } from "./layer_shapes.ts";
import { isPowerOf4 } from "./marker_reader.ts";
import {
  type BitField,
  type MatrixSource,
  type PackedCodes,
  packedMatrix,
} from "./matrix_source.ts";
import { byCode } from "./packed_codes.ts";
import { GROUP_SIZES } from "./outputs.ts";
import { DEFAULT_CODEBOOK, groupedLevels } from "../quant/level_grid.ts";
import { noRotationGroup } from "../quant/rotation_groups.ts";

/** Levels of 4 bits without a table, and of 6 bits. */
const PLAIN_LEVELS = byCode(16, (code) => code - 8),
  SIX_BIT_LEVELS = byCode(64, (code) => code - 32);

/** ComfyUI 0.33.0 installs 0.2.31. */
const SIX_BIT_KITCHEN = "comfy-kitchen 0.2.36";

export const asymW4a8: Format = {
  id: "asym_w4a8_int8",
  title: "W4A8 and W6A8",
  stockSince: "0.31.0",
  runsOn:
    "NVIDIA from Ampere (SM 8.0) and AMD from RDNA2; elsewhere weights are restored to compute; " +
    `6 bits need ${SIX_BIT_KITCHEN}`,
  parts: ["weight_s_rel", "weight_s_channel", "weight_codebook", "weight_correction"],
  recognise: ({ format, weight, parts, marker }) => {
    if (format !== "asym_w4a8_int8" || weight === null) return null;
    const scale = parts.get("weight_s_rel");
    const group = marker?.["convrot_groupsize"] ?? 256;
    const cols = scale === undefined
      ? null
      : columnsOf(weight.shape, scale.shape, groupSizeOf(marker));
    return {
      codes: weight,
      scale,
      ...(cols === null ? {} : { shape: [...weight.shape.slice(0, -1), cols] }),
      ...(isPowerOf4(group) ? { convrotGroupSize: group } : {}),
    };
  },
  decode,
  recipe: (layer, { codes, shape, convrotGroupSize = null }) => {
    const groupSize = groupSizeOf(layer.marker), cols = shape?.at(-1);
    if (cols === undefined || !GROUP_SIZES.includes(groupSize)) return null;
    const output = 2 * codes.shape.at(-1)! === cols ? "w4a8" : "w6a8";
    return {
      ...{ format: "asym_w4a8_int8", convrotGroupSize, scaling: "row" },
      grid: { output, groupSize, linearDtype: "int4", codebook: codebookOf(layer) },
    };
  },
  problems: (report, layer, found) => {
    const refusal = decode(layer, found);
    if ("why" in refusal) {
      const isMissing = found.scale === undefined || !layer.parts.has("weight_s_channel");
      report(
        isMissing
          ? "scale-missing"
          : refusal.tensor === found.codes.name
          ? "weight-shape"
          : "scale-shape",
        "ValueError at load",
        `${refusal.tensor}: ${refusal.why}`,
      );
    }
    if (found.codes.shape.length === 3) {
      report(
        "version",
        "loads in ComfyUI later than 0.33.0",
        "expert banks of this format are newer",
        {
          severity: "warning",
        },
      );
    }
    if (layer.parts.has("weight_correction")) {
      const effect = "loads, ignores it: other values than those that were meant";
      report("correction-ignored", effect, "weight_correction is never loaded");
    }
  },
  writeGrid: {
    outputs: ["w6a8", "w4a8"],
    rotates: true,
    needs: ({ bits }) => bits === 6 ? SIX_BIT_KITCHEN : null,
    levels: ({ output, groupSize: group, codebook }, { cols, rotation }) => {
      const isSixBit = output === "w6a8";
      if (rotation === null) return noRotationGroup(cols);
      if (cols % group !== 0) return `groups of ${group} do not divide ${cols} columns`;
      const rule = sizeRule({ cols, group, rotation, isSixBit });
      if (rule !== null) return rule.replace(/^its /, "");
      const bits = isSixBit ? 6 : 4;
      return groupedLevels({ bits, groupCols: group, isFitted: codebook === "fit" });
    },
    layout: (levels, { rows, cols, rotation }) => {
      if (levels.kind !== "scaled") throw new TypeError("asym_w4a8_int8 has scales of groups");
      const { bits, groupCols, table } = levels;
      const shape = [rows, cols / groupCols];
      return {
        codes: { dtype: "I8", shape: [rows, cols * bits / 8] },
        beside: [
          { part: "weight_s_rel", dtype: "F8_E4M3", shape, content: "choices" },
          { part: "weight_s_channel", dtype: "F32", shape: [rows], content: "scales" },
          ...(bits === 4
            ? [{
              part: "weight_codebook",
              dtype: "F32" as const,
              shape: [table.length],
              content: Float32Array.from(table),
            }]
            : []),
        ],
        marker: { group_size: groupCols, convrot_groupsize: rotation! },
      };
    },
  },
};

function groupSizeOf(marker: LayerTensors["marker"]): number {
  const size = marker?.["group_size"] ?? 16;
  return typeof size === "number" && Number.isInteger(size) && size > 0 ? size : 0;
}

/** Whether a layer has a table of its own. */
function codebookOf({ parts, bytesOf }: LayerTensors): "default" | "fit" {
  const table = parts.get("weight_codebook");
  if (table === undefined) return "default";
  const values = new Float32Array(bytesOf(table).slice().buffer);
  const isDefault = values.every((value, i) => value === Math.fround(DEFAULT_CODEBOOK[i] ?? NaN));
  return isDefault ? "default" : "fit";
}

/** The columns that scales and codes agree on; null: they do not. */
function columnsOf(
  codes: readonly number[],
  scales: readonly number[],
  group: number,
): number | null {
  const bytes = codes[codes.length - 1] ?? 0, cols = group * (scales[scales.length - 1] ?? 0);
  return cols > 0 && (2 * bytes === cols || 4 * bytes === 3 * cols) ? cols : null;
}

function decode(layer: LayerTensors, found: Recognised): MatrixSource | Refusal {
  const { codes, scale, shape, convrotGroupSize: rotation } = found;
  const group = groupSizeOf(layer.marker), channel = layer.parts.get("weight_s_channel");
  if (codes.dtype !== "I8" && codes.dtype !== "U8") {
    return broken(
      codes,
      `it is ${shown(codes)}, asym_w4a8_int8 needs I8 [N, K / 2] or [N, 3 K / 4]`,
    );
  }
  if (scale === undefined) return broken(codes, "it has no weight_s_rel");
  if (channel === undefined) return broken(codes, "it has no weight_s_channel");
  if (shape === undefined) {
    return broken(
      codes,
      `its rows of ${
        codes.shape[codes.shape.length - 1]
      } bytes fit neither 4 nor 6 bits of the columns that weight_s_rel [${
        scale.shape.join(", ")
      }] covers in groups of ${group}`,
    );
  }
  const cols = shape[shape.length - 1]!, rows = elementsOf(shape.slice(0, -1));
  const rowBytes = codes.shape[codes.shape.length - 1]!, isSixBit = 2 * rowBytes !== cols;
  const rule = sizeRule({ cols, group, rotation: rotation ?? null, isSixBit });
  if (rule !== null) return broken(codes, rule);
  const isGrouped = elementsOf(scale.shape) === rows * (cols / group);
  const isBytes = scale.dtype === "F8_E4M3" || scale.dtype === "U8";
  if (!isBytes && scale.dtype !== "F32" || !isGrouped) {
    return broken(scale, `it is ${shown(scale)}, not F8_E4M3 [${rows}, ${cols / group}]`);
  }
  if (channel.dtype !== "F32" || elementsOf(channel.shape) !== rows) {
    return broken(channel, `it is ${shown(channel)}, not F32 [${rows}]`);
  }
  const codebook = layer.parts.get("weight_codebook");
  if (codebook !== undefined && (codebook.dtype !== "F32" || !sameShape(codebook.shape, [16]))) {
    return broken(codebook, `it is ${shown(codebook)}, not F32 [16]`);
  }
  if (codebook !== undefined && isSixBit) return broken(codebook, "codes of 6 bits have no table");
  const packed: PackedCodes = {
    rowBytes,
    ...codesOf({ cols, isSixBit }, codebook),
    scales: [{
      file: scale.file,
      offsetBytes: scale.offsetBytes,
      dtype: scale.dtype === "F32" ? "F32" : "F8_E4M3",
      groupRows: 1,
      groupCols: group,
      rounds: true,
    }, {
      file: channel.file,
      offsetBytes: channel.offsetBytes,
      dtype: "F32",
      groupRows: 1,
      groupCols: cols,
    }],
  };
  return packedMatrix(codes, { rows, cols, convrotGroupSize: rotation! }, packed);
}

/** How codes lie in bytes, and what they stand for. */
function codesOf(
  { cols, isSixBit }: { readonly cols: number; readonly isSixBit: boolean },
  codebook: SourceTensor | undefined,
): Pick<PackedCodes, "fields" | "levels" | "levelCount"> {
  if (isSixBit) return { fields: sixBitFields(cols), levels: SIX_BIT_LEVELS, levelCount: 64 };
  const levels = codebook === undefined
    ? PLAIN_LEVELS
    : { file: codebook.file, offsetBytes: codebook.offsetBytes };
  return { fields: [{ firstByte: 0, bits: 4, highFirst: false }], levels, levelCount: 16 };
}

/** The low 4 bits of every code, then the 2 high ones. */
function sixBitFields(cols: number): BitField[] {
  return [
    { firstByte: 0, bits: 4, highFirst: false },
    { firstByte: cols / 2, bits: 2, highFirst: false },
  ];
}

/** The rule of the loader that a size breaks; null: none. */
function sizeRule(
  { cols, group, rotation, isSixBit }: {
    cols: number;
    group: number;
    rotation: number | null;
    isSixBit: boolean;
  },
): string | null {
  if (rotation === null) return "its convrot_groupsize is no power of 4";
  if (cols % rotation !== 0) {
    return `its rotation group ${rotation} does not divide its ${cols} columns`;
  }
  if (cols % 16 !== 0) return `its ${cols} columns are no multiple of 16`;
  if (isSixBit && group % 16 !== 0) {
    return `its group_size is ${group}, no multiple of 16 as 6 bits need`;
  }
  if (isSixBit && cols % 32 !== 0) {
    return `its ${cols} columns are no multiple of 32 as 6 bits need`;
  }
  if (group < 4 || (16 % group !== 0 && group % 16 !== 0)) {
    return `its group_size is ${group}, which neither divides 16 nor is a multiple of it`;
  }
  return null;
}
