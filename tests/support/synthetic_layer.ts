/**
 * A linear layer and inputs of it, as the layers of diffusion transformers and language models are: from a
 * seed, by additions, multiplications, divisions and square roots only, so the same on every engine.
 *
 * - Weights are heavy-tailed (Student's t) times 0.02; a few input channels are 8 times as large, a few
 *   rows 5 times.
 * - Inputs are correlated: a few common directions of falling strength plus independent noise per channel.
 *   A few channels, chosen independently of the weights, are 20 times as large.
 *
 * Rounding to nearest then reaches about 32 dB by row, 14 by tensor, 23 by 128 x 128 block, and 42 by row
 * after rotation.
 */

/** Sizes and seed of a layer. */
export interface SyntheticOptions {
  readonly rows: number;
  readonly cols: number;
  readonly seed: number;
  /** Degrees of freedom of the weights: tails are heavier the fewer. */
  readonly freedom?: number;
  /** Number of common directions of the inputs. */
  readonly rank?: number;
  /** Share of the inputs' energy in the common directions. */
  readonly commonShare?: number;
}

/** A layer, and inputs as many as asked for. */
export interface SyntheticLayer {
  readonly rows: number;
  readonly cols: number;
  /** f32 `[rows, cols]`. */
  readonly weight: Float32Array;
  /** Returns `count` inputs, f32 `[count, cols]`, those of another `stream` independent of these. */
  inputs(count: number, stream: number): Float32Array;
}

/** Uniform numbers in 0..1 (mulberry32). */
function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Nearly normal numbers of deviation 1: sums of twelve uniform ones. */
function normal(seed: number): () => number {
  const next = uniform(seed);
  return () => {
    let sum = -6;
    for (let k = 0; k < 12; k++) sum += next();
    return sum;
  };
}

/** Sets `count` places of `scales`, at random, to `factor`. */
function raise(scales: Float64Array, count: number, factor: number, next: () => number): void {
  for (let k = 0; k < count; k++) scales[Math.floor(next() * scales.length)]! *= factor;
}

/** Returns the layer of `options`: the same every time. */
export function syntheticLayer(options: SyntheticOptions): SyntheticLayer {
  const { rows, cols, seed } = options;
  const freedom = options.freedom ?? 6, rank = options.rank ?? Math.max(1, Math.round(cols / 4));
  const common = options.commonShare ?? 0.8;
  const pick = uniform(seed * 7919 + 1), gauss = normal(seed * 7919 + 2);

  const columnScale = new Float64Array(cols).fill(1), rowScale = new Float64Array(rows).fill(1);
  raise(columnScale, Math.max(1, Math.round(cols / 350)), 8, pick);
  raise(rowScale, Math.max(1, Math.round(rows / 100)), 5, pick);
  const weight = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) {
      let chi = 0;
      for (let k = 0; k < freedom; k++) chi += gauss() ** 2;
      weight[r * cols + c] = 0.02 * rowScale[r]! * columnScale[c]! * gauss() /
        Math.sqrt(chi / freedom);
    }
  }

  const inputScale = new Float64Array(cols).fill(1);
  raise(inputScale, Math.max(1, Math.round(cols / 300)), 20, pick);
  // Direction k has strength 1 / sqrt(k + 1) before all are scaled to their share of the energy.
  const directions = new Float32Array(rank * cols);
  let strength = 0;
  for (let k = 0; k < rank; k++) strength += 1 / (k + 1);
  for (let k = 0; k < rank; k++) {
    const length = Math.sqrt(common / (strength * (k + 1)));
    for (let c = 0; c < cols; c++) directions[k * cols + c] = length * gauss();
  }
  const noise = Math.sqrt(1 - common);

  return {
    rows,
    cols,
    weight,
    inputs(count, stream) {
      const next = normal(seed * 7919 + 1000 + stream);
      const x = new Float32Array(count * cols);
      const input = new Float64Array(cols);
      for (let t = 0; t < count; t++) {
        for (let c = 0; c < cols; c++) input[c] = noise * next();
        for (let k = 0; k < rank; k++) {
          const amount = next();
          for (let c = 0; c < cols; c++) input[c]! += amount * directions[k * cols + c]!;
        }
        for (let c = 0; c < cols; c++) x[t * cols + c] = input[c]! * inputScale[c]!;
      }
      return x;
    },
  };
}
