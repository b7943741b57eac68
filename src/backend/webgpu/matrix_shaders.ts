/** The shaders that work on matrices, some of them once for each way to store an operand. */

import gatherCodesCode from "../../../wgsl/gather_codes.wgsl" with { type: "text" };
import gatherColumnsCode from "../../../wgsl/gather_columns.wgsl" with { type: "text" };
import gemmCode from "../../../wgsl/gemm_f32.wgsl" with { type: "text" };
import hadamardCode from "../../../wgsl/hadamard.wgsl" with { type: "text" };
import ldlqBlockCode from "../../../wgsl/ldlq_block.wgsl" with { type: "text" };
import ldlqLevelsCode from "../../../wgsl/ldlq_levels.wgsl" with { type: "text" };
import codeLibrary from "../../../wgsl/lib/code.wgsl" with { type: "text" };
import exact from "../../../wgsl/lib/exact.wgsl" with { type: "text" };
import index from "../../../wgsl/lib/index.wgsl" with { type: "text" };
import ldlqColumns from "../../../wgsl/lib/ldlq_columns.wgsl" with { type: "text" };
import levels from "../../../wgsl/lib/levels.wgsl" with { type: "text" };
import nearestLevel from "../../../wgsl/lib/nearest_level.wgsl" with { type: "text" };
import operand from "../../../wgsl/lib/operand.wgsl" with { type: "text" };
import narrowCode from "../../../wgsl/narrow.wgsl" with { type: "text" };
import { type ParamType, type Shader, shader } from "./shader.ts";
import { type Storage, storageConstants, STORAGES } from "./storage.ts";

/** Parameters that are all u32. */
function u32s<P extends string>(...names: P[]): Record<P, "u32"> {
  return Object.fromEntries(names.map((name) => [name, "u32"])) as Record<P, "u32">;
}

const GEMM = {
  ...u32s("m", "n", "k", "cStart", "cRow", "aStart", "aRow", "aCol", "bStart", "bRow", "bCol"),
  addsToC: "u32",
  gain: "f32",
} as const satisfies Record<string, ParamType>;

const LDLQ_PLACES = u32s(
  "rows",
  "width",
  "codesStart",
  "codesRow",
  "weightsStart",
  "weightsRow",
  "feedbackStart",
  "feedbackRow",
  "panelStart",
  "panelRow",
  "groupsStart",
  "firstRow",
  "groupRows",
  "scaleCols",
);
const LDLQ_BLOCK = { ...LDLQ_PLACES, zero: "u32" } as const;
const LDLQ_LEVELS = {
  ...LDLQ_PLACES,
  ...u32s("across", "setCols", "lastSet"),
  zero: "u32",
} as const;

/** Names of variants show how operands are stored, if not in f32. */
function named(stem: string, storage: Storage): string {
  return storage === "f32" ? stem : `${stem}_${storage}`;
}

const gemmShaders: readonly Shader<keyof typeof GEMM>[] = STORAGES.map((storage) =>
  shader(named("gemm_f32", storage), {
    code: gemmCode,
    libraries: [index, operand, storageConstants({ STORAGE: storage })],
    buffers: ["write", "read", "read"],
    params: GEMM,
  })
);

const ldlqBlockShaders: readonly Shader<keyof typeof LDLQ_BLOCK>[] = STORAGES.map((storage) =>
  shader(named("ldlq_block", storage), {
    code: ldlqBlockCode,
    libraries: [...ldlqLibraries(storage), codeLibrary],
    buffers: ["write", "write", "read", "read", "read", "read"],
    params: LDLQ_BLOCK,
  })
);

const ldlqLevelsShaders: readonly Shader<keyof typeof LDLQ_LEVELS>[] = STORAGES.map((storage) =>
  shader(named("ldlq_levels", storage), {
    code: ldlqLevelsCode,
    libraries: [...ldlqLibraries(storage), levels, nearestLevel],
    buffers: ["write", "write", "read", "read", "read", "read", "write", "read"],
    params: LDLQ_LEVELS,
  })
);

/** What both need for a panel stored as `storage`. */
function ldlqLibraries(storage: Storage): string[] {
  return [exact, index, operand, storageConstants({ PANEL_STORAGE: storage }), ldlqColumns];
}

/** The product of matrices that are both stored as `storage`. */
export function gemmShader(storage: Storage): Shader<keyof typeof GEMM> {
  return gemmShaders[STORAGES.indexOf(storage)]!;
}

/** `ldlqBlock` for a panel stored as `panel`. */
export function ldlqBlockShader(panel: Storage): Shader<keyof typeof LDLQ_BLOCK> {
  return ldlqBlockShaders[STORAGES.indexOf(panel)]!;
}

/** `ldlqLevels` for a panel stored as `panel`. */
export function ldlqLevelsShader(panel: Storage): Shader<keyof typeof LDLQ_LEVELS> {
  return ldlqLevelsShaders[STORAGES.indexOf(panel)]!;
}

export const hadamard = shader("hadamard", {
  code: hadamardCode,
  libraries: [exact, index],
  buffers: ["write"],
  params: {
    ...u32s("lines", "lineStride", "step", "apartLog", "countLog", "blocksLog", "linesFirst"),
    factor: "f32",
    zero: "u32",
  },
});

export const narrow = shader("narrow", {
  code: narrowCode,
  libraries: [exact, index],
  buffers: ["write", "read"],
  params: {
    ...u32s("rows", "cols", "xStart", "xRow", "outStart", "outRow"),
    gain: "f32",
    zero: "u32",
  },
});

export const gatherColumns = shader("gather_columns", {
  code: gatherColumnsCode,
  libraries: [index],
  buffers: ["write", "read", "read"],
  params: u32s("count", "cols"),
});

export const gatherCodes = shader("gather_codes", {
  code: gatherCodesCode,
  libraries: [index],
  buffers: ["write", "read", "read"],
  params: u32s("rows", "cols", "words"),
});

/** All of them, for tests. */
export const matrixShaders: readonly Shader[] = [
  ...gemmShaders,
  ...ldlqBlockShaders,
  ...ldlqLevelsShaders,
  hadamard,
  narrow,
  gatherColumns,
  gatherCodes,
];
