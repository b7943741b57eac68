/**
 * What a worker asks of the GPU. Workers run synchronously and may not touch the device; one more worker
 * owns it (`workers/gpu_service.ts`) and does what they ask, straight in the memory that all share. Plain
 * data only.
 */

import type { Grid } from "../backend/backend.ts";
import type { FloatDType } from "../core/dtype.ts";
import type { GpuCheck } from "./checks/gpu_check.ts";

/** Where an array lies in the memory of a run, in bytes and elements. */
export interface MemoryPlace {
  readonly offsetBytes: number;
  readonly length: number;
}

/** A rectangle to be rounded to nearest; see `backend/webgpu/quantize_rect.ts`. */
export interface QuantizeRequest {
  readonly op: "quantize";
  /** u8 */
  readonly raw: MemoryPlace;
  readonly dtype: FloatDType;
  /** LoRAs that are added, `LowRankChange` with its arrays packed. */
  readonly changes: readonly unknown[];
  readonly grid: Grid;
  readonly convrotGroupSize: number | null;
  readonly scaleSearch: boolean;
  /** i8 */
  readonly codes: MemoryPlace;
  /** f32 */
  readonly scales: MemoryPlace;
}

/** An array, in the memory of the run. */
export interface PackedArray extends MemoryPlace {
  readonly array: "f32" | "f64" | "i8" | "i32";
}

/** A kernel of the linear algebra, `LinalgKernels` in `linalg/linalg_kernels.ts`, with its arguments packed. */
export interface LinalgRequest {
  readonly op: "linalg";
  readonly kernel: OffloadedKernel;
  /** See {@link packArrays}. */
  readonly args: readonly unknown[];
}

/** Kernels that are worth the way to the GPU and back by themselves. */
export type OffloadedKernel = "gemmF32" | "gemmI8" | "hadamardRows" | "hadamardColumns";

/** A factored Hessian (`quant/gptq.ts`) that rows will be rounded with, until it is dropped. */
export interface FactorRequest {
  readonly op: "factor";
  /** By what later requests name it. */
  readonly name: string;
  readonly size: number;
  readonly blockSize: number;
  /** f64, block by block. */
  readonly values: MemoryPlace;
  /** Copied: it does not lie in the memory of the run. */
  readonly order: Int32Array | null;
  readonly storage: GpuStorage;
}

/** How large intermediates are stored on the device. Sums are f32 always. */
export type GpuStorage = "f32" | "bf16" | "f16";

/** Rows to be rounded with a factor. */
export interface LdlqRequest {
  readonly op: "ldlq";
  readonly name: string;
  /** f32; becomes what rounding took from it where `errors` is true. */
  readonly weights: MemoryPlace;
  /** i8 */
  readonly codes: MemoryPlace;
  /** f32 */
  readonly scales: MemoryPlace;
  readonly errors: boolean;
  readonly firstRow: number;
  readonly grid: Grid;
}

/** A factor is needed no more. */
export interface DropRequest {
  readonly op: "drop";
  readonly name: string;
}

/** A step of learned rounding with data, a {@link DescentCall} with its arrays packed. */
export interface DescentRequest {
  readonly op: "descent";
  /** See {@link packArrays}. */
  readonly call: unknown;
}

/** See `backend/webgpu/output_descent.ts`. */
export type DescentCall =
  /** Keeps the moments of a layer, f32 `[size, blockSize]`, instead of those before. `id` f64 `[1]` gets their number. */
  | {
    readonly kind: "moments";
    readonly size: number;
    readonly blockSize: number;
    readonly values: Float32Array;
    readonly id: Float64Array;
  }
  /** Some rows of the layer with moments `id` are what follows, from this worker, is about. */
  | {
    readonly kind: "rows";
    readonly id: number;
    readonly grid: Grid;
    readonly scales: Float32Array;
    readonly columnGroups: Int32Array;
  }
  /** Takes in their errors, f32 `[rows, cols]`; `gradient`, the same, gets half the gradient of the loss. */
  | { readonly kind: "measure"; readonly errors: Float32Array; readonly gradient: Float32Array }
  /** Moves codes of a panel, i8 and f32 `[rows, cols]`; `totals` f64 `[3]`: moves, gain, cost. */
  | {
    readonly kind: "descend";
    readonly first: number;
    readonly cols: number;
    readonly codes: Int8Array;
    readonly errors: Float32Array;
    readonly penalty: number;
    readonly totals: Float64Array;
  }
  /** Nothing is kept any more. */
  | { readonly kind: "forget" };

/**
 * Second moments of the inputs of a layer (`backend/webgpu/gpu_gram.ts`), of one layer at a time: from
 * nothing, with more inputs, and what they come to.
 */
export type MomentsRequest =
  | { readonly op: "moments"; readonly step: "begin"; readonly size: number }
  /** f32 `[rows, size]` */
  | { readonly op: "moments"; readonly step: "add"; readonly inputs: MemoryPlace }
  /** f64 `[size, size]`: the sum is added to its lower triangle, and kept no more. */
  | { readonly op: "moments"; readonly step: "end"; readonly into: MemoryPlace };

/** Errors of outputs, `OutputRows` of `backend/webgpu/output_errors.ts` with its arrays packed. */
export interface MeasureRequest {
  readonly op: "measure";
  /** See {@link packArrays}. */
  readonly rows: unknown;
}

export type GpuRequest =
  | MomentsRequest
  | QuantizeRequest
  | LinalgRequest
  | FactorRequest
  | LdlqRequest
  | DropRequest
  | DescentRequest
  | MeasureRequest;

/** How the GPU looks to a chunk. */
export interface GpuAccess {
  /**
   * Has `request` done and waits for it. False: the device failed, results are unspecified, and the work has
   * to be done here. The reason has been told by then.
   *
   * @param check looks at the answer. Absent: what comes of this request is checked later.
   * @throws WrongResultError where the check fails.
   */
  run(request: GpuRequest, check?: GpuCheck): boolean;
  /** Ends the run as a check that failed does: `what` is wrong. */
  distrust(what: string): never;
}

/** Where `view` lies in its memory. */
export function placeOf(
  view: { readonly byteOffset: number; readonly length: number },
): MemoryPlace {
  return { offsetBytes: view.byteOffset, length: view.length };
}

const ARRAYS = {
  f32: Float32Array,
  f64: Float64Array,
  i8: Int8Array,
  i32: Int32Array,
} as const;

/** `value` with its arrays, also those within objects, replaced by where they lie. */
export function packArrays(value: unknown): unknown {
  if (ArrayBuffer.isView(value)) {
    for (const [array, Type] of Object.entries(ARRAYS)) {
      if (value instanceof Type) return { array, ...placeOf(value) };
    }
    throw new TypeError("Cannot hand an array to the GPU: it is neither f32, f64, i8 nor i32");
  }
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, packArrays(part)]));
}

/** The reverse of {@link packArrays}, in `buffer`. */
export function unpackArrays(value: unknown, buffer: ArrayBuffer | SharedArrayBuffer): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (isPacked(value)) {
    const { array, offsetBytes, length } = value;
    return new ARRAYS[array](buffer as ArrayBuffer, offsetBytes, length);
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, part]) => [key, unpackArrays(part, buffer)]),
  );
}

function isPacked(value: object): value is PackedArray {
  return "array" in value && "offsetBytes" in value;
}
