/**
 * The element types of safetensors files, and exact conversions of single values.
 * The bulk conversions are kernels (`src/backend`); these define what they must give.
 */

/** A safetensors dtype name. */
export type DType =
  | FloatDType
  | "F8_E8M0"
  | "F6_E2M3"
  | "F6_E3M2"
  | "F4"
  | "C64"
  | "I64"
  | "I32"
  | "I16"
  | "I8"
  | "U64"
  | "U32"
  | "U16"
  | "U8"
  | "BOOL";

/** Bits per element of every dtype that safetensors writers use. */
export const DTYPE_BITS: Readonly<Record<DType, number>> = Object.freeze({
  F64: 64,
  F32: 32,
  F16: 16,
  BF16: 16,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F4: 4,
  C64: 64,
  I64: 64,
  I32: 32,
  I16: 16,
  I8: 8,
  U64: 64,
  U32: 32,
  U16: 16,
  U8: 8,
  BOOL: 8,
});

/** The dtypes that decode to f32 and so can be quantized. */
export const FLOAT_DTYPES: readonly FloatDType[] = [
  "F64",
  "F32",
  "F16",
  "BF16",
  "F8_E4M3",
  "F8_E5M2",
];

/** A dtype that decodes to f32. */
export type FloatDType = "F64" | "F32" | "F16" | "BF16" | "F8_E4M3" | "F8_E5M2";

/** Whether `name` is a dtype of the format. */
export function isDType(name: string): name is DType {
  return Object.hasOwn(DTYPE_BITS, name);
}

/** Whether tensors of `dtype` decode to f32. */
export function isFloatDType(dtype: DType): dtype is FloatDType {
  return (FLOAT_DTYPES as readonly string[]).includes(dtype);
}

/**
 * Returns the alignment of `dtype` in bytes: its element size, 1 for sub-byte types. Readers view
 * tensors in place (`torch.Tensor.view(dtype)`), which needs offsets divisible by this.
 */
export function alignmentOf(dtype: DType): number {
  return Math.max(1, DTYPE_BITS[dtype] >> 3);
}

const f32View = new Float32Array(1);
const u32View = new Uint32Array(f32View.buffer);

/** Returns the f32 value of the bits of a BF16 (0..65535). Exact. */
export function bf16ToF32(bits: number): number {
  u32View[0] = bits << 16;
  return f32View[0]!;
}

/** Returns the BF16 bits nearest to the f32 `value`, ties to even; NaN becomes 0x7fc0 with its sign. */
export function f32ToBf16(value: number): number {
  f32View[0] = value;
  const bits = u32View[0]!;
  if (value !== value) return ((bits >>> 16) & 0x8000) | 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** Returns the value of the bits of an IEEE binary16 (0..65535). Exact. */
export function f16ToF32(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1, magnitude = bits & 0x7fff;
  if (magnitude >= 0x7c00) return magnitude === 0x7c00 ? sign * Infinity : NaN;
  // In the fields of f32 the exponent is short of the difference of the biases; the product is exact.
  u32View[0] = magnitude << 13;
  return sign * f32View[0]! * 2 ** 112;
}

/**
 * Returns the binary16 bits nearest to the f32 `value`, ties to even. Magnitudes of 65520 and more
 * become infinity, as IEEE 754 says; NaN becomes 0x7e00 with its sign.
 */
export function f32ToF16(value: number): number {
  f32View[0] = value;
  const bits = u32View[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // >= 65520 rounds up to infinity
  if (magnitude < 0x38800000) { // below 2^-14: subnormal, in units of 2^-24
    f32View[0] = value < 0 ? -value : value;
    const units = f32View[0]! * 2 ** 24; // exact: a power of two, no f32 underflow in f64
    const floor = Math.floor(units);
    const rest = units - floor;
    return sign | (floor + (rest > 0.5 || (rest === 0.5 && (floor & 1) === 1) ? 1 : 0));
  }
  const rebased = magnitude - 0x38000000; // exponent bias 127 -> 15
  return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
}

/** Returns the value of the bits of a F8_E4M3 (the "FN" variant: no infinity, 0x7f/0xff are NaN). */
export function f8e4m3ToF32(bits: number): number {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits >> 3) & 15;
  const mantissa = bits & 7;
  if (exponent === 15 && mantissa === 7) return NaN;
  if (exponent === 0) return sign * mantissa * 2 ** -9;
  return sign * (1 + mantissa / 8) * 2 ** (exponent - 7);
}

/** Returns the value of the bits of a F8_E5M2: the upper byte of a binary16. */
export function f8e5m2ToF32(bits: number): number {
  return f16ToF32(bits << 8);
}
