/**
 * rotate: every run of `groupSize` values times the normalised regular Hadamard matrix of that size.
 *
 * H4 = [[1,1,1,-1],[1,1,-1,1],[1,-1,1,1],[-1,1,1,1]] and H_4m = kron(H_m, H4), over sqrt(groupSize).
 * Since the matrix is a Kronecker power, it is applied as log4(groupSize) radix-4 stages, of strides
 * groupSize/4, ..., 16, 4, 1. A stage takes four values a, b, c, d one stride apart to
 *
 *     h = ((a + d) + (b + c)) * 0.5;   h - d, h - c, h - b, h - a
 *
 * which is H4 / 2: (a + b + c - d) / 2 = h - d, and so on. This order of additions is part of the
 * definition: the same everywhere, it makes the result the same everywhere.
 *
 * Layout: n f32 in place, n a multiple of groupSize, a power of 4. Any alignment. No tail.
 * NaN and infinity spread over their run. Class: exact.
 */

export function rotate(x: usize, n: usize, groupSize: usize): void {
  if (groupSize == 1) return;
  for (let at: usize = 0; at < n; at += groupSize) rotateGroup(x + (at << 2), groupSize);
}

/** One run. The passes of a group of 256 stay in 1 KiB, in the innermost cache. */
function rotateGroup(x: usize, size: usize): void {
  const bytes = size << 2;
  for (let stride = bytes >> 2; stride >= 64; stride >>= 2) {
    for (let block: usize = 0; block < bytes; block += stride << 2) strideStage(x + block, stride);
  }
  if (size == 4) {
    v128.store(x, lastStage(v128.load(x), f32x4.splat(0.5)));
  } else {
    lastTwoStages(x, bytes);
  }
}

/** One stage over four rows of `stride` bytes, a multiple of 64. */
function strideStage(x: usize, stride: usize): void {
  const half = f32x4.splat(0.5);
  const x1 = x + stride, x2 = x1 + stride, x3 = x2 + stride;
  for (let i: usize = 0; i < stride; i += 16) {
    const a = v128.load(x + i), b = v128.load(x1 + i), c = v128.load(x2 + i), d = v128.load(x3 + i);
    const h = f32x4.mul(f32x4.add(f32x4.add(a, d), f32x4.add(b, c)), half);
    v128.store(x + i, f32x4.sub(h, d));
    v128.store(x1 + i, f32x4.sub(h, c));
    v128.store(x2 + i, f32x4.sub(h, b));
    v128.store(x3 + i, f32x4.sub(h, a));
  }
}

/** The stages of strides 4 and 1, on 16 values at a time in registers. */
function lastTwoStages(x: usize, bytes: usize): void {
  const half = f32x4.splat(0.5);
  for (let i: usize = 0; i < bytes; i += 64) {
    const p = x + i;
    const a = v128.load(p), b = v128.load(p, 16), c = v128.load(p, 32), d = v128.load(p, 48);
    const h = f32x4.mul(f32x4.add(f32x4.add(a, d), f32x4.add(b, c)), half);
    v128.store(p, lastStage(f32x4.sub(h, d), half));
    v128.store(p, lastStage(f32x4.sub(h, c), half), 16);
    v128.store(p, lastStage(f32x4.sub(h, b), half), 32);
    v128.store(p, lastStage(f32x4.sub(h, a), half), 48);
  }
}

/** The stage of stride 1 within a vector: every lane of `sum` is (a + d) + (b + c). */
// @ts-ignore: decorator
@inline
function lastStage(v: v128, half: v128): v128 {
  const reversed = v128.shuffle<f32>(v, v, 3, 2, 1, 0);
  const pairs = f32x4.add(v, reversed);
  const sum = f32x4.add(pairs, v128.shuffle<f32>(pairs, pairs, 1, 0, 3, 2));
  return f32x4.sub(f32x4.mul(sum, half), reversed);
}
