/**
 * What a worker asks of the GPU. Workers run synchronously and may not touch the device; one more worker
 * owns it (`workers/gpu_service.ts`) and does what they ask, straight in the memory that all share. Plain
 * data only.
 */

import type { Grid } from "../backend/backend.ts";
import type { FloatDType } from "../core/dtype.ts";

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
  readonly grid: Grid;
  readonly convrotGroupSize: number | null;
  readonly scaleSearch: boolean;
  /** i8 */
  readonly codes: MemoryPlace;
  /** f32 */
  readonly scales: MemoryPlace;
  /** f64 */
  readonly numbers: MemoryPlace;
}

export type GpuRequest = QuantizeRequest;

/** How the GPU looks to a chunk. */
export interface GpuAccess {
  /**
   * Has `request` done and waits for it. False: the device failed, results are unspecified, and the work has
   * to be done here. The reason has been told by then.
   */
  run(request: GpuRequest): boolean;
}

/** Where `view` lies in its memory. */
export function placeOf(
  view: { readonly byteOffset: number; readonly length: number },
): MemoryPlace {
  return { offsetBytes: view.byteOffset, length: view.length };
}
