/** haveSameBytes: see `CpuKernels.haveSameBytes`, `asm/same_bytes.ts`. */

/** Whether two arrays hold the same bytes. */
export function haveSameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
