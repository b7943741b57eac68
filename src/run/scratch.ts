/** Memory of a worker. */

/** Memory that the kernels can work on; `Arena` of the CPU backend is one. */
export interface Scratch {
  f32(count: number): Float32Array;
  f64(count: number): Float64Array;
  i8(count: number): Int8Array;
  u8(count: number): Uint8Array;
  u16(count: number): Uint16Array;
  u32(count: number): Uint32Array;
  i32(count: number): Int32Array;
  mark(): number;
  release(mark: number): void;
}
