/**
 * addColumns: the values of every column, added to sums; addSquares: their squares.
 *
 *     sums[k] += x[0,k] + x[1,k] + ...;   squares[k] += x[0,k]^2 + x[1,k]^2 + ...
 *
 * Layout: x f32 [rows, cols], sums f64 [cols]. Any alignment. Eight columns at a time, every column from its first row
 * to its last; what is left of columns goes one by one. NaN and infinity spread into the sums of their column.
 * Class: exact (every value, and its square, is one of f64; additions in one order).
 */

export function addColumns(sums: usize, x: usize, rows: usize, cols: usize): void {
  addUp(sums, x, rows, cols, false);
}

export function addSquares(squares: usize, x: usize, rows: usize, cols: usize): void {
  addUp(squares, x, rows, cols, true);
}

// @ts-ignore: decorator
@inline
function addUp(sums: usize, x: usize, rows: usize, cols: usize, squares: bool): void {
  let k: usize = 0;
  for (; k + 8 <= cols; k += 8) {
    const at = sums + (k << 3);
    let s0 = v128.load(at), s1 = v128.load(at, 16), s2 = v128.load(at, 32), s3 = v128.load(at, 48);
    for (let r: usize = 0, from = x + (k << 2); r < rows; r++, from += cols << 2) {
      const v0 = f64x2.promote_low_f32x4(v128.load64_zero(from));
      const v1 = f64x2.promote_low_f32x4(v128.load64_zero(from, 8));
      const v2 = f64x2.promote_low_f32x4(v128.load64_zero(from, 16));
      const v3 = f64x2.promote_low_f32x4(v128.load64_zero(from, 24));
      if (squares) {
        s0 = f64x2.add(s0, f64x2.mul(v0, v0));
        s1 = f64x2.add(s1, f64x2.mul(v1, v1));
        s2 = f64x2.add(s2, f64x2.mul(v2, v2));
        s3 = f64x2.add(s3, f64x2.mul(v3, v3));
      } else {
        s0 = f64x2.add(s0, v0);
        s1 = f64x2.add(s1, v1);
        s2 = f64x2.add(s2, v2);
        s3 = f64x2.add(s3, v3);
      }
    }
    v128.store(at, s0);
    v128.store(at, s1, 16);
    v128.store(at, s2, 32);
    v128.store(at, s3, 48);
  }
  for (; k < cols; k++) {
    let sum = load<f64>(sums + (k << 3));
    for (let r: usize = 0; r < rows; r++) {
      const value = <f64>load<f32>(x + (r * cols + k << 2));
      sum += squares ? value * value : value;
    }
    store<f64>(sums + (k << 3), sum);
  }
}
