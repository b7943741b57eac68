/** The values of scales, one by one. */

import { bf16ToF32, f16ToF32, f8e4m3ToF32, f8e5m2ToF32 } from "../core/dtype.ts";
import type { ScaleDType } from "./matrix_source.ts";

/** Returns how value `i` is read from the bytes of a scale. */
export function scaleReader(dtype: ScaleDType, bytes: Uint8Array): (index: number) => number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (dtype) {
    case "F64":
      return (i) => view.getFloat64(8 * i, true);
    case "F32":
      return (i) => view.getFloat32(4 * i, true);
    case "F16":
      return (i) => f16ToF32(view.getUint16(2 * i, true));
    case "BF16":
      return (i) => bf16ToF32(view.getUint16(2 * i, true));
    case "F8_E4M3":
      return (i) => f8e4m3ToF32(view.getUint8(i));
    case "F8_E5M2":
      return (i) => f8e5m2ToF32(view.getUint8(i));
    case "F8_E8M0":
      return (i) => view.getUint8(i) === 255 ? NaN : 2 ** (view.getUint8(i) - 127);
  }
}
