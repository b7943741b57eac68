/**
 * sameBytes: whether two arrays hold the same bytes: 1 or 0.
 *
 * Layout: a, b n bytes, any alignment. Tail: one by one. Ends at the first 64 bytes that differ. Class: exact.
 */
export function sameBytes(a: usize, b: usize, n: usize): i32 {
  let i: usize = 0;
  for (; i + 64 <= n; i += 64) {
    const p = a + i, q = b + i;
    const d0 = v128.xor(v128.load(p), v128.load(q)), d1 = v128.xor(v128.load(p, 16), v128.load(q, 16));
    const d2 = v128.xor(v128.load(p, 32), v128.load(q, 32));
    const d3 = v128.xor(v128.load(p, 48), v128.load(q, 48));
    if (v128.any_true(v128.or(v128.or(d0, d1), v128.or(d2, d3)))) return 0;
  }
  for (; i < n; i++) if (load<u8>(a + i) !== load<u8>(b + i)) return 0;
  return 1;
}
