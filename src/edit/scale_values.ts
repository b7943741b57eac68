/** Stored scales as F32 bytes of another shape, if that changes no value. */

import { bf16ToF32, type DType, f16ToF32, f8e4m3ToF32, f8e5m2ToF32 } from "../core/dtype.ts";
import { decodeByteScales } from "../formats/packed_codes.ts";

/**
 * Returns the scales of `bytes` as F32 values, or null if one of them has no F32 of the same value.
 *
 * @param dtype of the stored scales.
 */
export function exactScales(dtype: DType, bytes: Uint8Array): Float32Array | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = (size: number, at: (offset: number) => number) =>
    Float32Array.from({ length: bytes.length / size }, (_, index) => at(index * size));
  switch (dtype) {
    case "F32":
      return values(4, (offset) => view.getFloat32(offset, true));
    case "F16":
      return values(2, (offset) => f16ToF32(view.getUint16(offset, true)));
    case "BF16":
      return values(2, (offset) => bf16ToF32(view.getUint16(offset, true)));
    case "F8_E4M3":
      return values(1, (offset) => f8e4m3ToF32(view.getUint8(offset)));
    case "F8_E5M2":
      return values(1, (offset) => f8e5m2ToF32(view.getUint8(offset)));
    case "F64": {
      const narrow = values(8, (offset) => view.getFloat64(offset, true));
      const isExact = narrow.every((value, i) => Object.is(value, view.getFloat64(8 * i, true)));
      return isExact ? narrow : null;
    }
    case "F8_E8M0": {
      const powers = new Float32Array(bytes.length);
      decodeByteScales(powers, bytes, dtype);
      return powers;
    }
    default:
      return null;
  }
}

/** Returns the bytes of `rows` scales, each of `scales` repeated for its `groupRows` rows. */
export function repeatedScales(
  scales: Float32Array,
  { rows, groupRows }: { rows: number; groupRows: number },
): Uint8Array {
  const bytes = new Uint8Array(4 * rows);
  const view = new DataView(bytes.buffer);
  for (let row = 0; row < rows; row++) {
    view.setFloat32(4 * row, scales[Math.floor(row / groupRows)]!, true);
  }
  return bytes;
}
