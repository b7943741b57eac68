/**
 * subtract: out = a - b in f32.
 *
 * Layout: out, a, b n f32; out may be a or b itself. Any alignment. Tail: one by one. Class: exact.
 */
export function subtract(out: usize, a: usize, b: usize, n: usize): void {
  let i: usize = 0;
  for (; i + 4 <= n; i += 4) {
    v128.store(out + (i << 2), f32x4.sub(v128.load(a + (i << 2)), v128.load(b + (i << 2))));
  }
  for (; i < n; i++) store<f32>(out + (i << 2), load<f32>(a + (i << 2)) - load<f32>(b + (i << 2)));
}
