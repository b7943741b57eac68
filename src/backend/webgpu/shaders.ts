/** The compute shaders. Sources are text imports, so that a compiled program holds them. */

import absmaxCode from "../../../wgsl/absmax.wgsl" with { type: "text" };
import addLowRankCode from "../../../wgsl/add_low_rank.wgsl" with { type: "text" };
import castF16Code from "../../../wgsl/cast_f16.wgsl" with { type: "text" };
import countNonFiniteCode from "../../../wgsl/count_non_finite.wgsl" with { type: "text" };
import decodeCode from "../../../wgsl/decode.wgsl" with { type: "text" };
import dequantizeCode from "../../../wgsl/dequantize.wgsl" with { type: "text" };
import descendRowsCode from "../../../wgsl/descend_rows.wgsl" with { type: "text" };
import descendSumsCode from "../../../wgsl/descend_sums.wgsl" with { type: "text" };
import errorStatsCode from "../../../wgsl/error_stats.wgsl" with { type: "text" };
import feedBackCode from "../../../wgsl/feed_back.wgsl" with { type: "text" };
import gemmI8Code from "../../../wgsl/gemm_i8.wgsl" with { type: "text" };
import histogramCode from "../../../wgsl/histogram.wgsl" with { type: "text" };
import bestSet from "../../../wgsl/lib/best_set.wgsl" with { type: "text" };
import codeLibrary from "../../../wgsl/lib/code.wgsl" with { type: "text" };
import dot4Bits from "../../../wgsl/lib/dot4_bits.wgsl" with { type: "text" };
import dot4Packed from "../../../wgsl/lib/dot4_packed.wgsl" with { type: "text" };
import exact from "../../../wgsl/lib/exact.wgsl" with { type: "text" };
import index from "../../../wgsl/lib/index.wgsl" with { type: "text" };
import levelGroups from "../../../wgsl/lib/level_groups.wgsl" with { type: "text" };
import nearestLevelLibrary from "../../../wgsl/lib/nearest_level.wgsl" with { type: "text" };
import levelsLibrary from "../../../wgsl/lib/levels.wgsl" with { type: "text" };
import roundGroup from "../../../wgsl/lib/round_group.wgsl" with { type: "text" };
import quantizeCode from "../../../wgsl/quantize.wgsl" with { type: "text" };
import packLevelsCode from "../../../wgsl/pack_levels.wgsl" with { type: "text" };
import quantizeLevelsCode from "../../../wgsl/quantize_levels.wgsl" with { type: "text" };
import rotateCode from "../../../wgsl/rotate.wgsl" with { type: "text" };
import rotateGroupCode from "../../../wgsl/rotate_group.wgsl" with { type: "text" };
import scaleFromAbsmaxCode from "../../../wgsl/scale_from_absmax.wgsl" with { type: "text" };
import scaledProductCode from "../../../wgsl/scaled_product.wgsl" with { type: "text" };
import roundFloatsCode from "../../../wgsl/round_floats.wgsl" with { type: "text" };
import roundToStepsCode from "../../../wgsl/round_to_steps.wgsl" with { type: "text" };
import roundToTableCode from "../../../wgsl/round_to_table.wgsl" with { type: "text" };
import searchClipCode from "../../../wgsl/search_clip.wgsl" with { type: "text" };
import searchLevelsCode from "../../../wgsl/search_levels.wgsl" with { type: "text" };
import searchScaleCode from "../../../wgsl/search_scale.wgsl" with { type: "text" };
import { shader } from "./shader.ts";

const libraries = [exact, index];

const GRID = { cols: "u32", groupRows: "u32", groupCols: "u32", groups: "u32" } as const;
const ELEMENTS = { count: "u32", cols: "u32", groupRows: "u32", groupCols: "u32" } as const;

export const decode = shader("decode", {
  code: decodeCode,
  libraries,
  buffers: ["write", "read"],
  params: { count: "u32", dtype: "u32" },
});

export const countNonFinite = shader("count_non_finite", {
  code: countNonFiniteCode,
  libraries,
  buffers: ["write", "read"],
  params: { count: "u32" },
});

export const absmax = shader("absmax", {
  code: absmaxCode,
  libraries,
  buffers: ["write", "read"],
  params: GRID,
});

export const scaleFromAbsmax = shader("scale_from_absmax", {
  code: scaleFromAbsmaxCode,
  libraries,
  buffers: ["write"],
  params: { count: "u32", most: "f32" },
});

export const searchScale = shader("search_scale", {
  code: searchScaleCode,
  libraries,
  buffers: ["write", "read"],
  params: { ...GRID, delta: "f32", top: "f32", allowance: "f32", zero: "u32" },
});

export const quantize = shader("quantize", {
  code: quantizeCode,
  libraries: [...libraries, codeLibrary],
  buffers: ["write", "read", "read"],
  params: ELEMENTS,
});

export const quantizeLevels = shader("quantize_levels", {
  code: quantizeLevelsCode,
  libraries: [...libraries, levelsLibrary, nearestLevelLibrary],
  buffers: ["write", "read", "read", "read", "read"],
  params: { ...ELEMENTS, setCols: "u32" },
});

export const packLevels = shader("pack_levels", {
  code: packLevelsCode,
  libraries,
  buffers: ["write", "read", "read", "read"],
  params: { words: "u32", cols: "u32", setCols: "u32", bits: "u32" },
});

const LEVEL_GROUPS = {
  groups: "u32",
  cols: "u32",
  groupRows: "u32",
  groupCols: "u32",
  setCols: "u32",
} as const;

export const roundToSteps = shader("round_to_steps", {
  code: roundToStepsCode,
  libraries: [...libraries, levelsLibrary, bestSet, levelGroups, roundGroup],
  buffers: ["write", "write", "read", "read", "read", "read"],
  params: LEVEL_GROUPS,
});

export const roundToTable = shader("round_to_table", {
  code: roundToTableCode,
  libraries: [...libraries, levelsLibrary, bestSet, levelGroups, roundGroup],
  buffers: ["write", "write", "read", "read", "read", "read"],
  params: LEVEL_GROUPS,
});

export const roundFloats = shader("round_floats", {
  code: roundFloatsCode,
  libraries,
  buffers: ["write", "write", "write"],
  params: { count: "u32", kind: "u32", scale: "f32", search: "u32", zero: "u32" },
});

export const searchClip = shader("search_clip", {
  code: searchClipCode,
  libraries,
  buffers: ["write", "read", "read"],
  params: { rows: "u32", cols: "u32", candidates: "u32", zero: "u32" },
});

export const searchLevels = shader("search_levels", {
  code: searchLevelsCode,
  libraries: [...libraries, levelsLibrary, nearestLevelLibrary, bestSet, levelGroups],
  buffers: ["write", "read", "read", "read", "read"],
  params: { ...LEVEL_GROUPS, candidates: "u32" },
});

export const dequantize = shader("dequantize", {
  code: dequantizeCode,
  libraries,
  buffers: ["write", "read", "read"],
  params: ELEMENTS,
});

export const rotate = shader("rotate", {
  code: rotateCode,
  libraries,
  buffers: ["write"],
  params: { quads: "u32", stride: "u32", zero: "u32" },
});

export const rotateGroup = shader("rotate_group", {
  code: rotateGroupCode,
  libraries,
  buffers: ["write"],
  params: { count: "u32", groupSize: "u32", zero: "u32" },
});

export const histogram = shader("histogram", {
  code: histogramCode,
  libraries,
  buffers: ["write", "read"],
  params: { count: "u32", bins: "u32", binsPerUnit: "f32" },
});

export const castF16 = shader("cast_f16", {
  code: castF16Code,
  libraries,
  buffers: ["write", "write", "read"],
  params: { count: "u32" },
});

export const errorStats = shader("error_stats", {
  code: errorStatsCode,
  libraries,
  buffers: ["write", "read", "read"],
  params: { count: "u32" },
});

const GEMM_I8 = {
  m: "u32",
  n: "u32",
  k: "u32",
  aStart: "u32",
  aRow: "u32",
  bStart: "u32",
  bRow: "u32",
} as const;

/** Needs the WGSL feature `packed_4x8_integer_dot_product`. */
export const gemmI8 = shader("gemm_i8", {
  code: gemmI8Code,
  libraries: [...libraries, dot4Packed],
  buffers: ["write", "read", "read"],
  params: GEMM_I8,
});

/** The same for where it is missing. */
export const gemmI8Bits = shader("gemm_i8_bits", {
  code: gemmI8Code,
  libraries: [...libraries, dot4Bits],
  buffers: ["write", "read", "read"],
  params: GEMM_I8,
});

export const addLowRank = shader("add_low_rank", {
  code: addLowRankCode,
  libraries,
  buffers: ["write", "read", "read"],
  params: { rows: "u32", cols: "u32", rank: "u32", xStart: "u32", zero: "u32" },
});

export const feedBack = shader("feed_back", {
  code: feedBackCode,
  libraries,
  buffers: ["write", "read", "read", "read", "read"],
  params: {
    rows: "u32",
    cols: "u32",
    pairs: "u32",
    cStart: "u32",
    cRow: "u32",
    add: "u32",
    zero: "u32",
  },
});

export const descendRows = shader("descend_rows", {
  code: descendRowsCode,
  libraries,
  buffers: ["write", "write", "write", "write", "read", "read", "read", "read"],
  params: {
    rows: "u32",
    cols: "u32",
    width: "u32",
    offset: "u32",
    codesStart: "u32",
    codesRow: "u32",
    errorsStart: "u32",
    errorsRow: "u32",
    gradientStart: "u32",
    gradientRow: "u32",
    panelStart: "u32",
    panelRow: "u32",
    weightsStart: "u32",
    groupsStart: "u32",
    firstRow: "u32",
    groupRows: "u32",
    scaleCols: "u32",
    penalty: "f32",
    zero: "u32",
  },
});

export const descendSums = shader("descend_sums", {
  code: descendSumsCode,
  libraries,
  buffers: ["write", "read", "read"],
  params: {
    rows: "u32",
    cols: "u32",
    rank: "u32",
    sumsStart: "u32",
    sumsRow: "u32",
    factorsStart: "u32",
    factorsRow: "u32",
    zero: "u32",
  },
});

export const scaledProduct = shader("scaled_product", {
  code: scaledProductCode,
  libraries,
  buffers: ["write", "read", "read", "read"],
  params: { count: "u32", n: "u32", across: "u32", groupRows: "u32", group: "u32", zero: "u32" },
});
