/**
 * squaredError: the sum of the squares of a, or of a - b, or of either with the bias of its column added.
 *
 *     (a[i] - b[i] + bias[i mod n])^2, summed up
 *
 * Layout: a, b count f32, bias n f32; without b, or bias, its address is 0, and 0 is taken for it. Any alignment. All in
 * f64, one after the other. NaN and infinity spread into the sum. Class: exact.
 */
export function squaredError(a: usize, b: usize, bias: usize, count: usize, n: usize): f64 {
  let sum: f64 = 0;
  if (bias === 0) {
    for (let i: usize = 0; i < count; i++) {
      const value = single(a, i) - (b === 0 ? 0 : single(b, i));
      sum += value * value;
    }
    return sum;
  }
  for (let i: usize = 0; i < count; i += n) {
    for (let j: usize = 0; j < n; j++) {
      const value = single(a, i + j) - (b === 0 ? 0 : single(b, i + j)) + single(bias, j);
      sum += value * value;
    }
  }
  return sum;
}

// @ts-ignore: decorator
@inline
function single(array: usize, i: usize): f64 {
  return <f64>load<f32>(array + (i << 2));
}
