/**
 * scaleFromAbsmax: scale = absmax / 127, but at least 1e-30 (in f32), with a true division.
 *
 * Layout: n f32 each, any alignment; in place allowed. Tail: one by one.
 * NaN gives 1e-30, infinity stays infinite. Class: exact.
 */

const SCALE_MIN: f32 = 1e-30;

export function scaleFromAbsmax(scales: usize, absmax: usize, n: usize): void {
  const least = f32x4.splat(SCALE_MIN), levels = f32x4.splat(127);
  let i: usize = 0;
  for (; i + 4 <= n; i += 4) {
    // pmax(a, b) is a < b ? b : a, so NaN gives the least scale.
    v128.store(
      scales + (i << 2),
      f32x4.pmax(least, f32x4.div(v128.load(absmax + (i << 2)), levels)),
    );
  }
  for (; i < n; i++) {
    const scale = load<f32>(absmax + (i << 2)) / 127;
    store<f32>(scales + (i << 2), SCALE_MIN < scale ? scale : SCALE_MIN);
  }
}
