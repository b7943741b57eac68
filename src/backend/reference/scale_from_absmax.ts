/** scaleFromAbsmax: see `Kernels.scaleFromAbsmax`, `asm/scale_from_absmax.ts`. */

import { checkSameLength } from "../kernel_checks.ts";

const SCALE_MIN = Math.fround(1e-30);

/** scale = max(absmax / 127, 1e-30) in f32. NaN gives 1e-30. */
export function scaleFromAbsmax(scales: Float32Array, absmax: Float32Array): void {
  checkSameLength("scaleFromAbsmax", scales, absmax);
  for (let i = 0; i < scales.length; i++) {
    const scale = Math.fround(absmax[i]! / 127);
    scales[i] = scale > SCALE_MIN ? scale : SCALE_MIN;
  }
}
