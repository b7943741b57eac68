/**
 * `adamw` and `radam`: every code follows a real number, its offset from the weight in steps of the grid,
 * which gradient steps move between the two grid points around the weight. The gradient is that of the
 * rounded codes (straight through).
 *
 * - First moments are exact. Second ones are kept per row and per column and multiplied (Adafactor, Shazeer
 *   and Stern, 2018): whole ones would take another copy of the layer.
 * - Weight decay (Loshchilov and Hutter, 2019) draws the offsets back to the weights, that is to rounding
 *   to nearest. Codes beyond the limit on the error are drawn back harder.
 * - RAdam (Liu et al., 2020) leaves out the second moments until their estimate has settled.
 */

import type { CountedMemory } from "../../core/counted_memory.ts";
import { type LinalgContext, withScratch } from "../../linalg/context.ts";
import { matrix } from "../../linalg/matrix.ts";
import type { GradientObjective, Layer, LossPlan } from "./layer.ts";
import type { Stepper } from "./search.ts";

const BETA1 = 0.9, BETA2 = 0.999, WEIGHT_DECAY = 0.01;

/** Share of the offsets that is left after a step beyond the limit. */
const PULL_BACK = 0.95;

/** Steps after which it is looked whether the loss still falls. */
const ROUND = 100;

/** Rows whose moments are worked out at a time. */
const BAND_ROWS = 64;

/** Counts what the steps keep. */
export function planGradientSteps(memory: CountedMemory, rows: number, cols: number): void {
  memory.f32(rows * cols);
}

/** Counts what one of the steps takes, with what the loss takes for first moments. */
export function planGradientStep(
  memory: CountedMemory,
  [rows, cols]: readonly [number, number],
  loss: LossPlan,
): void {
  memory.within(() => {
    memory.f32(BAND_ROWS * cols);
    loss.moments(Math.min(BAND_ROWS, rows));
  });
}

/** Returns the steps of `adamw`, or of `radam`. Takes memory of the context, which the caller gives back. */
export function gradientSteps(
  context: LinalgContext,
  layer: Layer,
  objective: GradientObjective,
  kind: "adamw" | "radam",
): Stepper {
  const { rows, cols } = layer.grid;
  const offsets = context.memory.f32(rows * cols).fill(0);
  const rowEnergy = new Float64Array(rows), colEnergy = new Float64Array(cols);
  const rowMean = new Float64Array(rows), colMean = new Float64Array(cols);
  let decay1 = 1, decay2 = 1;
  return {
    round: ROUND,
    step: (index, lr, use) => {
      decay1 *= BETA1;
      decay2 *= BETA2;
      objective.accumulate(BETA1);
      objective.energies(rowEnergy, colEnergy);
      average(rowMean, rowEnergy);
      average(colMean, colEnergy);
      const rectified = kind === "adamw" ? 1 : rectification(index + 1, decay2);
      const factors = rectified === null
        ? plainFactors(rows, cols)
        : adaptiveFactors(rowMean, colMean, 1 - decay2);
      const rate = -lr * (rectified ?? 1) / (1 - decay1);
      for (let i = 0; i < rows; i++) factors.rows[i] = factors.rows[i]! * rate;
      const keep = (1 - lr * WEIGHT_DECAY > 0 ? 1 - lr * WEIGHT_DECAY : 0) *
        (use > 1 ? PULL_BACK : 1);
      let cost = 0;
      withScratch(context, () => {
        const band = context.memory.f32(BAND_ROWS * cols);
        for (let first = 0; first < rows; first += BAND_ROWS) {
          const count = Math.min(BAND_ROWS, rows - first);
          objective.moments(matrix(band.subarray(0, count * cols), count, cols), first);
          for (let i = 0; i < count; i++) {
            const directions = band.subarray(i * cols, (i + 1) * cols);
            cost += moveRow(layer, objective, {
              row: first + i,
              directions,
              offsets,
              factors,
              keep,
            });
          }
        }
      });
      objective.commit();
      return cost;
    },
  };
}

function average(mean: Float64Array, now: Float64Array): void {
  for (let i = 0; i < mean.length; i++) mean[i] = BETA2 * mean[i]! + (1 - BETA2) * now[i]!;
}

/** Factors of first moments: a factor per row times one per column. */
interface Factors {
  readonly rows: Float64Array;
  readonly cols: Float64Array;
}

/** 1 / sqrt of second moments, which are rows * cols / sum(rows). */
function adaptiveFactors(rows: Float64Array, cols: Float64Array, share: number): Factors {
  let sum = 0;
  for (let i = 0; i < rows.length; i++) sum += rows[i]!;
  const inverse = (x: number) => x > 0 ? 1 / Math.sqrt(x / share) : 0;
  const whole = Math.sqrt(sum / share);
  return { rows: rows.map(inverse), cols: cols.map((x) => inverse(x) * whole) };
}

function plainFactors(rows: number, cols: number): Factors {
  return { rows: new Float64Array(rows).fill(1), cols: new Float64Array(cols).fill(1) };
}

/** How much an adaptive rate is to be trusted at `step`; null: not yet. */
function rectification(step: number, decay2: number): number | null {
  const most = 2 / (1 - BETA2) - 1;
  const length = most - 2 * step * decay2 / (1 - decay2);
  if (!(length > 5)) return null;
  return Math.sqrt(
    ((length - 4) * (length - 2) * most) / ((most - 4) * (most - 2) * length),
  );
}

/** Moves the offsets of one row, and the codes that they pull along. Returns the cost. */
function moveRow(
  { grid, codes, errors, scales, columnGroups }: Layer,
  objective: GradientObjective,
  { row, directions, offsets, factors, keep }: {
    row: number;
    directions: Float32Array;
    offsets: Float32Array;
    factors: Factors;
    keep: number;
  },
): number {
  const { cols, groupRows, groupCols } = grid;
  const band = Math.floor(row / groupRows) * (cols / groupCols), factor = factors.rows[row]!;
  let cost = 0;
  for (let j = 0, at = row * cols; j < cols; j++, at++) {
    const error = errors.data[at]!;
    if (!(error > 0 || error < 0)) continue;
    const scale = scales[band + columnGroups[j]!]!, position = error / scale;
    // Offsets of the grid points above and below; the code is on one of them.
    const above = position > 0 ? position : position + 1, below = above - 1;
    const wanted = offsets[at]! * keep + factor * factors.cols[j]! * directions[j]!;
    const offset = wanted > above ? above : wanted < below ? below : wanted;
    offsets[at] = offset;
    const isAbove = offset > above - 0.5;
    if (isAbove === position > 0) continue;
    const code = codes[at]! + (isAbove ? 1 : -1);
    if (code < -127 || code > 127) continue;
    const change = isAbove ? scale : -scale;
    codes[at] = code;
    errors.data[at] = error + change;
    cost += change * (2 * error + change);
    objective.moved(row, j, change);
  }
  return cost;
}
