/**
 * SmoothQuant (Xiao et al., 2023): factors s per input channel that move difficulty from activations to
 * weights, `x Wᵀ = (x / s) (W s)ᵀ`, with
 *
 *     s[k] = max |x[:, k]|^alpha / max |W[:, k]|^(1 - alpha)
 *
 * An alpha of 1 makes all channels of the inputs alike and leaves their differences to the weight; an alpha
 * of 0 the other way round.
 */

/** Factors stay within 2^-16 .. 2^16: norms in F16 must hold them. */
const EXPONENT_MAX = 16;

/**
 * Returns the factors, f32 `[K]`, with the geometric mean 1. Channels without weights or inputs get 1.
 *
 * @param inputMax f32 `[K]`, the largest magnitude of each channel of the inputs, up to a common factor.
 * @param weightMax f32 `[K]`, that of each column of all weights that have these inputs.
 * @param alpha 0 to 1.
 * @param powersOfTwo rounds every factor to one: multiplying by it then changes no bit of a mantissa, so that
 * norms and weights in BF16 or F16 take it exactly.
 */
export function smoothingFactors(
  inputMax: Float32Array,
  weightMax: Float32Array,
  { alpha, powersOfTwo }: { alpha: number; powersOfTwo: boolean },
): Float32Array {
  const logs = new Float64Array(inputMax.length);
  let sum = 0, count = 0;
  inputMax.forEach((x, k) => {
    const w = weightMax[k]!;
    if (!(x > 0 && x < Infinity && w > 0 && w < Infinity)) {
      logs[k] = NaN;
      return;
    }
    logs[k] = alpha * Math.log2(x) - (1 - alpha) * Math.log2(w);
    sum += logs[k]!;
    count++;
  });
  const mean = count === 0 ? 0 : sum / count;
  return Float32Array.from(logs, (log) => {
    if (Number.isNaN(log)) return 1;
    const exponent = Math.max(-EXPONENT_MAX, Math.min(EXPONENT_MAX, log - mean));
    return 2 ** (powersOfTwo ? Math.round(exponent) : exponent);
  });
}

/** Returns the largest of each channel over arrays of the same length, one at least. */
export function mostOf(arrays: readonly Float32Array[]): Float32Array {
  const most = arrays[0]!.slice();
  for (const values of arrays.slice(1)) {
    values.forEach((x, k) => {
      if (x > most[k]!) most[k] = x;
    });
  }
  return most;
}
