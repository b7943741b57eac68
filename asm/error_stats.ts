/**
 * errorStats: adds to six f64 the distance of xhat from x (slots: STATS in backend.ts): the sums
 * of (x - xhat)^2, x^2, xhat^2 and x * xhat, the largest |x - xhat|, the number of values.
 *
 * Layout: x, xhat n f32, any alignment; stats 6 f64, added to. Tail: one by one, in f64.
 * NaN and infinity spread into the sums.
 * Class: close, 1e-6 of the sum of squares: f32 lanes over runs of 1024 values, added up in f64. A run whose
 * squares leave the range of f32 is summed again in f64, so no magnitude makes a sum vanish or overflow.
 */

import { maxLanesF32, sumLanesF64 } from "./lib/lanes";

const RUN: usize = 1024;

/** Sums of a run above this may have overflowed, those below may have lost squares that f32 cannot hold. */
const LARGEST: f64 = 1e38, SMALLEST: f64 = 1e-36;

export function errorStats(stats: usize, x: usize, xhat: usize, n: usize): void {
  for (let i: usize = 0; i < n; i += RUN) {
    errorRun(stats, x + (i << 2), xhat + (i << 2), min(RUN, n - i));
  }
}

function errorRun(stats: usize, x: usize, xhat: usize, n: usize): void {
  let error = i64x2.splat(0), signal = error, output = error, dot = error, largest = error;
  let i: usize = 0;
  for (; i + 4 <= n; i += 4) {
    const a = v128.load(x + (i << 2)), b = v128.load(xhat + (i << 2));
    const e = f32x4.sub(a, b);
    error = f32x4.add(error, f32x4.mul(e, e));
    signal = f32x4.add(signal, f32x4.mul(a, a));
    output = f32x4.add(output, f32x4.mul(b, b));
    dot = f32x4.add(dot, f32x4.mul(a, b));
    largest = f32x4.pmax(largest, f32x4.abs(e));
  }
  let errorSum = sumLanesF64(error), signalSum = sumLanesF64(signal);
  let outputSum = sumLanesF64(output), dotSum = sumLanesF64(dot);
  let most = maxLanesF32(largest);
  // Also true of NaN, which f64 gives, too.
  const isLarge = !(errorSum < LARGEST && signalSum < LARGEST && outputSum < LARGEST);
  const isSmall = signalSum < SMALLEST || outputSum < SMALLEST ||
    (errorSum < SMALLEST && most > 0);
  if (isLarge || isSmall) {
    errorSum = 0, signalSum = 0, outputSum = 0, dotSum = 0;
    i = 0;
  }
  for (; i < n; i++) {
    const a = load<f32>(x + (i << 2)), b = load<f32>(xhat + (i << 2));
    const e = a - b;
    errorSum += <f64>e * <f64>e;
    signalSum += <f64>a * <f64>a;
    outputSum += <f64>b * <f64>b;
    dotSum += <f64>a * <f64>b;
    if (abs(e) > most) most = abs(e);
  }
  store<f64>(stats, load<f64>(stats) + errorSum);
  store<f64>(stats, load<f64>(stats, 8) + signalSum, 8);
  store<f64>(stats, load<f64>(stats, 16) + outputSum, 16);
  store<f64>(stats, load<f64>(stats, 24) + dotSum, 24);
  store<f64>(stats, max(load<f64>(stats, 32), <f64>most), 32);
  store<f64>(stats, load<f64>(stats, 40) + <f64>n, 40);
}
