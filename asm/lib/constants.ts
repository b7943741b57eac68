/**
 * Vectors of one constant that stay in a register throughout a loop.
 *
 * V8 builds a constant vector anew wherever it is used, in two or three instructions, also inside
 * loops; for short kernels that costs a third of the time. So these constants are made from a global
 * that never changes, but that the compilers must assume to change, as it is exported: a value made
 * from it before a loop stays a value and is kept in a register.
 */

/** Always 0. Exported from the module for the reason above, for no other. */
export let opaqueZero: i32 = 0;

/** Four lanes of the i32 `value`. Call it before the loop. */
// @ts-ignore: decorator
@inline
export function keepI32(value: i32): v128 {
  return i32x4.splat(value ^ opaqueZero);
}

/** Four lanes of the f32 `value`. Call it before the loop. */
// @ts-ignore: decorator
@inline
export function keepF32(value: f32): v128 {
  return i32x4.splat(reinterpret<i32>(value) ^ opaqueZero);
}
