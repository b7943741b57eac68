/** The shader of products of matrices, once for each way in which its operands may be stored. */

import gemmCode from "../../../wgsl/gemm_f32.wgsl" with { type: "text" };
import index from "../../../wgsl/lib/index.wgsl" with { type: "text" };
import operand from "../../../wgsl/lib/operand.wgsl" with { type: "text" };
import { type Shader, shader } from "./shader.ts";

/** How numbers are stored that are computed with in f32, in the order of `lib/operand.wgsl`. */
export const STORAGES = Object.freeze(["f32", "bf16", "f16"] as const);

export type Storage = (typeof STORAGES)[number];

/** Bytes of a number as it is stored. */
export function storageBytes(storage: Storage): number {
  return storage === "f32" ? 4 : 2;
}

const params = {
  m: "u32",
  n: "u32",
  k: "u32",
  cStart: "u32",
  cRow: "u32",
  aStart: "u32",
  aRow: "u32",
  aCol: "u32",
  bStart: "u32",
  bRow: "u32",
  bCol: "u32",
  addsToC: "u32",
  gain: "f32",
} as const;

function gemmVariant(a: Storage, b: Storage) {
  const storages = `const A_STORAGE = ${STORAGES.indexOf(a)}u;\nconst B_STORAGE = ${
    STORAGES.indexOf(b)
  }u;\n`;
  return shader(a === "f32" && b === "f32" ? "gemm_f32" : `gemm_f32_${a}_${b}`, {
    code: gemmCode,
    libraries: [index, operand, storages],
    buffers: ["write", "read", "read"],
    params,
  });
}

/** All variants, the rows by the storage of A, the columns by that of B. */
export const gemmShaders: readonly (readonly Shader<keyof typeof params>[])[] = STORAGES.map(
  (a) => STORAGES.map((b) => gemmVariant(a, b)),
);

/** The variant for A stored as `a` and B stored as `b`. */
export function gemmShader(a: Storage, b: Storage): Shader<keyof typeof params> {
  return gemmShaders[STORAGES.indexOf(a)]![STORAGES.indexOf(b)]!;
}
