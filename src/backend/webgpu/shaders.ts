/** The compute shaders. Sources are text imports, so that a compiled program holds them. */

import absmaxCode from "../../../wgsl/absmax.wgsl" with { type: "text" };
import castF16Code from "../../../wgsl/cast_f16.wgsl" with { type: "text" };
import countNonFiniteCode from "../../../wgsl/count_non_finite.wgsl" with { type: "text" };
import decodeCode from "../../../wgsl/decode.wgsl" with { type: "text" };
import dequantizeCode from "../../../wgsl/dequantize.wgsl" with { type: "text" };
import errorStatsCode from "../../../wgsl/error_stats.wgsl" with { type: "text" };
import histogramCode from "../../../wgsl/histogram.wgsl" with { type: "text" };
import codeLibrary from "../../../wgsl/lib/code.wgsl" with { type: "text" };
import exact from "../../../wgsl/lib/exact.wgsl" with { type: "text" };
import index from "../../../wgsl/lib/index.wgsl" with { type: "text" };
import quantizeCode from "../../../wgsl/quantize.wgsl" with { type: "text" };
import rotateCode from "../../../wgsl/rotate.wgsl" with { type: "text" };
import rotateGroupCode from "../../../wgsl/rotate_group.wgsl" with { type: "text" };
import scaleFromAbsmaxCode from "../../../wgsl/scale_from_absmax.wgsl" with { type: "text" };
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
  params: { count: "u32" },
});

export const searchScale = shader("search_scale", {
  code: searchScaleCode,
  libraries,
  buffers: ["write", "read"],
  params: { ...GRID, zero: "u32" },
});

export const quantize = shader("quantize", {
  code: quantizeCode,
  libraries: [...libraries, codeLibrary],
  buffers: ["write", "read", "read"],
  params: ELEMENTS,
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
  params: { quads: "u32", stride: "u32" },
});

export const rotateGroup = shader("rotate_group", {
  code: rotateGroupCode,
  libraries,
  buffers: ["write"],
  params: { count: "u32", groupSize: "u32" },
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
