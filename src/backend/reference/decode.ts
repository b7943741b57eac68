/** decode: see `Kernels.decode`, `asm/decode.ts`. */

import {
  bf16ToF32,
  f16ToF32,
  f8e4m3ToF32,
  f8e5m2ToF32,
  type FloatDType,
} from "../../core/dtype.ts";
import { checkDecode } from "../kernel_checks.ts";

/** out[i] = f32(source[i]). F64 rounds to nearest even, the others are exact. NaN stays NaN. */
export function decode(out: Float32Array, source: Uint8Array, dtype: FloatDType): void {
  checkDecode(out, source, dtype);
  const view = new DataView(source.buffer, source.byteOffset, source.byteLength);
  for (let i = 0; i < out.length; i++) out[i] = decodeAt(view, i, dtype);
}

function decodeAt(view: DataView, i: number, dtype: FloatDType): number {
  switch (dtype) {
    case "F64":
      return Math.fround(view.getFloat64(i * 8, true));
    case "F32":
      return view.getFloat32(i * 4, true);
    case "F16":
      return f16ToF32(view.getUint16(i * 2, true));
    case "BF16":
      return bf16ToF32(view.getUint16(i * 2, true));
    case "F8_E4M3":
      return f8e4m3ToF32(view.getUint8(i));
    case "F8_E5M2":
      return f8e5m2ToF32(view.getUint8(i));
  }
}
