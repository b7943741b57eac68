/**
 * Bias correction (Nagel et al., 2019): rounding moves the mean output of a layer by mean(x)·(W − Ŵ)ᵀ;
 * adding that to the bias takes the shift away.
 *
 * A mean that is estimated from T inputs has an error of variance v / T per channel, which would be added to
 * the outputs as a constant. It is shrunk toward zero by as much of its energy as that noise explains
 * (James and Stein, positive part), so that inputs without a mean leave the bias alone.
 */

/** Sums over inputs, channel by channel. */
export interface InputMoments {
  readonly rows: number;
  /** f64 `[K]`: sum of x. */
  readonly sums: Float64Array;
  /** f64 `[K]`: sum of x². */
  readonly squares: Float64Array;
}

/**
 * Returns the factor of the mean, 0..1: 1 − 1/F, at least 0, where F is the mean over channels of
 * mean² / (variance / T). 0 for a single input, whose variance is not known.
 */
export function meanShrinkage({ rows, sums, squares }: InputMoments): number {
  if (rows < 2) return 0;
  let ratio = 0, channels = 0;
  for (let k = 0; k < sums.length; k++) {
    const mean = sums[k]! / rows;
    const variance = (squares[k]! - rows * mean * mean) / (rows - 1);
    if (!(variance > 0)) {
      if (mean !== 0) return 1; // a constant channel: no noise in what it adds
      continue;
    }
    ratio += mean * mean * rows / variance;
    channels++;
  }
  return channels === 0 ? 0 : Math.max(0, 1 - channels / ratio);
}
