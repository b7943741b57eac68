/** Values of tensors, or of some of their rows, as f32, in plain TypeScript: for the library's loaders and for alphas. */

import { f16ToF32, f8e4m3ToF32, f8e5m2ToF32, isFloatDType } from "../core/dtype.ts";
import type { Tensor } from "../core/tensor.ts";

/**
 * Returns the values of a tensor as f32, row-major; F64 is rounded, all others are exact.
 *
 * @throws TypeError for a dtype that does not hold real numbers.
 */
export function decodeFloats({ name, dtype, data }: Tensor): Float32Array {
  if (!isFloatDType(dtype)) {
    throw new TypeError(
      `Cannot decode ${JSON.stringify(name)}: ${dtype} is no floating-point type`,
    );
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const each = (width: number, at: (offset: number) => number) => {
    const values = new Float32Array(data.length / width);
    for (let i = 0; i < values.length; i++) values[i] = at(i * width);
    return values;
  };
  switch (dtype) {
    case "F64":
      return each(8, (offset) => view.getFloat64(offset, true));
    case "F32":
      return each(4, (offset) => view.getFloat32(offset, true));
    case "F16":
      return each(2, (offset) => f16ToF32(view.getUint16(offset, true)));
    case "BF16": {
      const bits = new Uint32Array(data.length / 2);
      for (let i = 0; i < bits.length; i++) bits[i] = view.getUint16(2 * i, true) << 16;
      return new Float32Array(bits.buffer);
    }
    case "F8_E4M3":
      return each(1, (offset) => f8e4m3ToF32(view.getUint8(offset)));
    case "F8_E5M2":
      return each(1, (offset) => f8e5m2ToF32(view.getUint8(offset)));
  }
}
