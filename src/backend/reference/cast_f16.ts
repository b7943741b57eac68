/** castF16: see `Kernels.castF16`, `asm/cast_f16.ts`. */

import { f32ToF16 } from "../../core/dtype.ts";
import { checkSameLength } from "../kernel_checks.ts";

/** out[i] = binary16(x[i]); returns the index of the first finite value that becomes infinite, or -1. */
export function castF16(out: Uint16Array, x: Float32Array): number {
  checkSameLength("castF16", out, x);
  let first = -1;
  for (let i = 0; i < x.length; i++) {
    out[i] = f32ToF16(x[i]!);
    const isInfinite = (out[i]! & 0x7fff) === 0x7c00;
    if (isInfinite && Number.isFinite(x[i]!) && first < 0) first = i;
  }
  return first;
}
