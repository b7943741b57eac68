/**
 * The requests of a worker to the GPU. Workers run synchronously and may not touch the device; one more worker
 * owns it (`workers/gpu_service.ts`) and does what they ask, straight in the memory that all share. Plain
 * data only.
 */

import type { FloatRounding, Grid, LevelRounding } from "../backend/backend.ts";
import type { OutputRows } from "../backend/output_rows.ts";
import type { FloatDType } from "../core/dtype.ts";
import type { LinalgKernels, ShortMatrix } from "../linalg/linalg_kernels.ts";
import type { MatrixF32 } from "../linalg/matrix.ts";
import type { GpuCheck } from "./checks/gpu_check.ts";

/** Place of an array in the memory of a run, in bytes and elements. */
export interface MemoryPlace {
  readonly offsetBytes: number;
  readonly length: number;
}

/** The values of a rectangle. */
interface StoredRequest {
  /** u8 */
  readonly raw: MemoryPlace;
  readonly dtype: FloatDType;
  /** LoRAs that are added. */
  readonly changes: readonly Packed<AddedRows>[];
}

/** A rectangle to be rounded to nearest; see `backend/webgpu/quantize_rect.ts`. */
export interface QuantizeRequest extends StoredRequest {
  readonly op: "quantize";
  readonly grid: Grid;
  readonly convrotGroupSize: number | null;
  readonly scaleSearch: boolean;
  /** The levels that codes may be; absent: all from -127 to 127. */
  readonly levels?: RequestedRounding | RequestedSet;
  /** i8 */
  readonly codes: MemoryPlace;
  /** f32 */
  readonly scales: MemoryPlace;
}

/** Levels of a rectangle: see `LevelRounding`. */
export interface RequestedRounding {
  readonly kind: LevelRounding["kind"];
  readonly groupCols: number;
  /** Bytes of `steps`. */
  readonly steps: MemoryPlace;
  /** u8 */
  readonly first: MemoryPlace;
  /** u8 */
  readonly choices: MemoryPlace;
}

/** The same if there is one set: see `OneSet`. */
export interface RequestedSet {
  readonly kind: "one";
  readonly groupCols: number;
  readonly most: number;
  /** i8 */
  readonly nearest: MemoryPlace;
  /** Few numbers, copied. */
  readonly shares: readonly number[] | null;
  /** u8 */
  readonly choices: MemoryPlace;
}

/** A rectangle to become floats of few bits. */
export interface FloatsRequest extends StoredRequest {
  readonly op: "floats";
  readonly rows: number;
  readonly cols: number;
  readonly rounding: FloatRounding;
  /** u8 */
  readonly codes: MemoryPlace;
  /** u8 */
  readonly groupScales: MemoryPlace;
}

/** `b · a`, added to some rows: a LoRA. */
export interface LowRankRows {
  /** The first of the rows. */
  readonly firstRow: number;
  readonly rank: number;
  /** f32 `[rows, rank]`. */
  readonly b: Float32Array;
  /** f32 `[rank, cols]`. */
  readonly a: Float32Array;
}

/** The same of 16-bit integers, for at most 64 ranks: see `chunks/merge_rect.ts`. */
export interface ShortRows {
  /** The first of the rows. */
  readonly firstRow: number;
  readonly rows: number;
  readonly terms: number;
  /** `b`, in strips of four rows. */
  readonly left: ShortMatrix;
  /** `a`, in strips of eight columns. */
  readonly right: ShortMatrix;
}

/** What is added to the rows of a rectangle. */
export type AddedRows = LowRankRows | ShortRows;

/** An array, in the memory of the run. */
interface PackedArray<Name extends keyof typeof ARRAYS> extends MemoryPlace {
  readonly array: Name;
}

/** `T` with its arrays, also those within objects, replaced by if they lie in the memory of the run. */
export type Packed<T> = T extends Float32Array ? PackedArray<"f32">
  : T extends Float64Array ? PackedArray<"f64">
  : T extends Int8Array ? PackedArray<"i8">
  : T extends Int32Array ? PackedArray<"i32">
  : T extends ArrayBufferView ? never
  : T extends object ? { readonly [K in keyof T]: Packed<T[K]> }
  : T;

/** Kernels that are worth the way to the GPU and back by themselves, and what they take: see `LinalgKernels`. */
export interface OffloadedKernels {
  gemmF32: Parameters<LinalgKernels["gemmF32"]>;
  gemmI8: Parameters<LinalgKernels["gemmI8"]>;
  hadamardRows: [x: MatrixF32];
  hadamardColumns: [x: MatrixF32];
}

/** One of these kernels. */
export type LinalgRequest = {
  readonly [K in keyof OffloadedKernels]: {
    readonly op: "linalg";
    readonly kernel: K;
    readonly args: Packed<OffloadedKernels[K]>;
  };
}[keyof OffloadedKernels];

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
export type GpuStorage = "f32" | "f16";

/** Rows to be rounded with a factor. */
export interface LdlqRequest {
  readonly op: "ldlq";
  readonly name: string;
  /** f32; becomes what rounding took from it if `errors` is true. */
  readonly weights: MemoryPlace;
  /** i8 */
  readonly codes: MemoryPlace;
  /** f32 */
  readonly scales: MemoryPlace;
  readonly errors: boolean;
  readonly firstRow: number;
  readonly grid: Grid;
  /** See `GpuRowLevels` of `backend/webgpu/ldlq_rows.ts`; absent: codes are all from -127 to 127. */
  readonly levels?: RequestedLevels;
}

/** Levels that codes may be, and how sets of them are chosen. */
export interface RequestedLevels {
  readonly groupCols: number;
  /** u8 */
  readonly choices: MemoryPlace;
  /** i8 */
  readonly nearest: MemoryPlace;
  readonly search: {
    /** u8 */
    readonly first: MemoryPlace;
  } | null;
}

/** A factor is needed no more. */
export interface DropRequest {
  readonly op: "drop";
  readonly name: string;
}

/** A step of learned rounding with data. */
export interface DescentRequest {
  readonly op: "descent";
  readonly call: Packed<DescentCall>;
}

/** See `backend/webgpu/output_descent.ts`. */
export type DescentCall =
  /**
   * Keeps the moments of a layer, f32 `[size, blockSize]`, instead of those before. `id` f64 `[1]` gets
   * their number.
   */
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

/** Errors of outputs. */
export interface MeasureRequest {
  readonly op: "measure";
  readonly rows: Packed<OutputRows>;
}

export type GpuRequest =
  | MomentsRequest
  | QuantizeRequest
  | FloatsRequest
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
   * to be done here. The reason has been reported by then.
   *
   * @param check looks at the answer. Absent: what comes of this request is checked later.
   * @throws WrongResultError if the check fails.
   */
  run(request: GpuRequest, check?: GpuCheck): boolean;
  /** Ends the run as a check that failed does: `what` is wrong. */
  distrust(what: string): never;
}

/** Place of `view` in its memory. */
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

/** Returns `value` with its arrays, also those within objects, replaced by where they lie. */
export function packArrays<T>(value: T): Packed<T> {
  return packed(value) as Packed<T>;
}

/** Returns what was given to {@link packArrays}, with views of `buffer`. */
export function unpackArrays<T>(value: Packed<T>, buffer: ArrayBuffer | SharedArrayBuffer): T {
  return unpacked(value, buffer) as T;
}

function packed(value: unknown): unknown {
  if (ArrayBuffer.isView(value)) {
    for (const [array, Type] of Object.entries(ARRAYS)) {
      if (value instanceof Type) return { array, ...placeOf(value) };
    }
    throw new TypeError("Cannot hand an array to the GPU: it is neither f32, f64, i8 nor i32");
  }
  return mapped(value, packed);
}

function unpacked(value: unknown, buffer: ArrayBuffer | SharedArrayBuffer): unknown {
  if (isPacked(value)) {
    const { array, offsetBytes, length } = value;
    return new ARRAYS[array](buffer as ArrayBuffer, offsetBytes, length);
  }
  return mapped(value, (part) => unpacked(part, buffer));
}

/** `value` with its parts changed. */
function mapped(value: unknown, change: (part: unknown) => unknown): unknown {
  if (Array.isArray(value)) return value.map(change);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, change(part)]));
}

function isPacked(value: unknown): value is PackedArray<keyof typeof ARRAYS> {
  return typeof value === "object" && value !== null && "array" in value && "offsetBytes" in value;
}
