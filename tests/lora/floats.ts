/** Numbers for the tests of merging. */

/** Returns `count` f32 in (-1, 1), the same for the same seed (mulberry32). */
export function seededFloats(count: number, seed: number): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  });
}

/** Returns |got - want| / |want|, both as vectors. */
export function relativeError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let error = 0;
  let norm = 0;
  for (let i = 0; i < want.length; i++) {
    error += (got[i]! - want[i]!) ** 2;
    norm += want[i]! ** 2;
  }
  return Math.sqrt(error / norm);
}
