/**
 * Scales for error-compensated rounding, chosen by the error that will remain after compensation.
 *
 * With H = L·Lᵀ the output error of LDLQ is the sum over columns of D[j] * r[j]^2, where D[j] = L[j,j]^2 is
 * the energy of channel j that the channels rounded after it cannot make up for, and r[j] is how far
 * rounding moved the (fed-back) weight: by a random part of a step, or by what was clipped. So for a group
 *
 *     cost(s) = sum D[j] * s^2 / 12  +  sum D[j] * max(0, |w| - 127 s)^2
 *
 * Groups of several rows get the scale of least cost (`tile_scale.ts`): it lets go of a few large weights
 * on channels without energy. In a group that is part of one row, a few channels may dominate; their
 * weights should fall on the grid, so for those the rounding is carried out, for each candidate scale, in
 * the order and with the feedback that it will have. That is the gain of layers with outlier channels: on
 * synthetic ones, with 0.3% of such channels, GPTQ's output error falls by 13% on a row grid, and by 30%
 * with a scale for every 128 columns of a row. Rotated layers have none; their scales stay.
 *
 * Pure and plain arithmetic: the same result on every engine.
 */

import type { Grid } from "../backend/backend.ts";
import type { GptqFactor } from "./gptq.ts";
import { SCALE_MIN } from "./scheme.ts";
import { absmaxOf, searchTileScales } from "./tile_scale.ts";

/** Most channels of a group whose rounding is carried out. */
const LEADERS_MAX = 16;
/** A channel dominates if D is so many times the mean of its group. */
const LEADER_RATIO = 8;

/** Candidates for parts of rows with leaders: so many steps down from FINE_MAX * absmax / 127. */
const FINE_MAX = 1.1, FINE_MIN = 0.85, FINE_STEPS = 128;

/** A channel, by its place in the factor. The last one is rounded first. */
interface Channel {
  readonly place: number;
  /** Its column of the layer. */
  readonly column: number;
  /** The part of an error that channels rounded later cannot make up for: L[j,j]^2. */
  readonly energy: number;
}

/** Returns the best scale of the group whose first row begins at `offset`; null: leave it as it is. */
type Search = (weights: Float32Array, offset: number) => number | null;

/**
 * Replaces the scales of groups for which compensation has a better choice. Others stay: those of part of
 * a row without dominating channels, and all if the factor is one of a fallback.
 *
 * @param scales f32, one per group of `grid`: on entry those of plain rounding.
 * @param weights f32 `[grid.rows, grid.cols]`, row-major, in the space of the codes. Some rows of a layer
 * will do, if they are whole groups.
 */
export function searchCompensatedScales(
  factor: GptqFactor,
  scales: Float32Array,
  weights: Float32Array,
  grid: Grid,
): void {
  if (factor.report.fallback !== null) return;
  const { rows, cols, groupRows, groupCols } = grid;
  const across = cols / groupCols, channels = channelsOf(factor);
  if (groupRows > 1) {
    searchTileScales(scales, weights, grid, energiesOf(channels, 0));
    return;
  }
  for (let col = 0; col < across; col++) {
    const first = col * groupCols;
    const group = channels.filter(({ column }) => column >= first && column < first + groupCols);
    const search = searchRow(factor, group, first);
    if (search === null) continue;
    for (let row = 0; row < rows; row++) {
      const scale = search(weights, row * cols + first);
      if (scale !== null) scales[row * across + col] = Math.max(scale, Math.fround(SCALE_MIN));
    }
  }
}

/**
 * The part of an error that channels rounded later cannot make up for, per column of the layer: L[j,j]^2,
 * f64 `[K]`. Not for
 * the factor of a fallback.
 */
export function residualEnergies(factor: GptqFactor): Float64Array {
  return energiesOf(channelsOf(factor), 0);
}

function channelsOf(factor: GptqFactor): Channel[] {
  const { size, order } = factor;
  return Array.from({ length: size }, (_, place) => {
    const pivot = factorElement(factor, place, place);
    return { place, column: order === null ? place : order[place]!, energy: pivot * pivot };
  });
}

/** L[i, j], zero between blocks. */
function factorElement({ blockSize, values }: GptqFactor, i: number, j: number): number {
  const top = i - i % blockSize;
  if (j < top || j > i) return 0;
  return values[i * blockSize + (j - top)]!;
}

/** Energies by column of the group, the first one at index 0. */
function energiesOf(group: readonly Channel[], first: number): Float64Array {
  const energies = new Float64Array(group.length);
  for (const { column, energy } of group) energies[column - first] = energy;
  return energies;
}

function sumOf(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0);
}

/** Effect of the error of leader i on leader j, rounded later: entry i * leaders.length + j. */
function feedbackAmong(factor: GptqFactor, leaders: readonly Channel[]): Float64Array {
  const count = leaders.length, feedback = new Float64Array(count * count);
  leaders.forEach((from, i) => {
    leaders.slice(i + 1).forEach((to, k) => {
      const pivot = factorElement(factor, to.place, to.place);
      feedback[i * count + i + 1 + k] = factorElement(factor, from.place, to.place) / pivot;
    });
  });
  return feedback;
}

/** For parts of one row: carries out the rounding of dominating channels. Null if there are none. */
function searchRow(factor: GptqFactor, group: readonly Channel[], first: number): Search | null {
  const energies = energiesOf(group, first);
  const limit = LEADER_RATIO * sumOf(energies) / group.length;
  const leaders = group.filter(({ energy }) => energy > limit)
    .sort((a, b) => b.energy - a.energy || a.place - b.place)
    .slice(0, LEADERS_MAX)
    .sort((a, b) => b.place - a.place);
  if (leaders.length === 0) return null;
  const count = leaders.length, feedback = feedbackAmong(factor, leaders);
  const leaderEnergies = Float64Array.from(leaders, ({ energy }) => energy);
  const columns = Int32Array.from(leaders, ({ column }) => column - first);
  for (const column of columns) energies[column] = 0; // their part of the cost is carried out
  const rest = sumOf(energies) / 12;
  const values = new Float64Array(count), fed = new Float64Array(count);

  /** The cost of the leaders at scale `s`, or some number above `most`. */
  const leaderCost = (s: number, most: number): number => {
    let cost = 0;
    fed.fill(0);
    for (let i = 0; i < count && cost <= most; i++) {
      const value = values[i]! + fed[i]!;
      const code = nearestCode(value / s);
      const moved = value - code * s, error = values[i]! - code * s;
      cost += leaderEnergies[i]! * moved * moved;
      for (let j = i + 1; j < count; j++) fed[j] = fed[j]! + error * feedback[i * count + j]!;
    }
    return cost;
  };

  return (weights, offset) => {
    const row = weights.subarray(offset, offset + group.length);
    const largest = Math.fround(absmaxOf(row) / 127);
    if (!(largest > SCALE_MIN)) return null;
    const large: number[] = [];
    for (let j = 0; j < row.length; j++) {
      if (Math.abs(row[j]!) > 127 * FINE_MIN * largest && energies[j]! > 0) large.push(j);
    }
    columns.forEach((column, i) => values[i] = row[column]!);
    let best = largest, least = Infinity;
    for (let step = 0; step <= FINE_STEPS; step++) {
      const s = Math.fround(largest * (FINE_MAX - (FINE_MAX - FINE_MIN) * step / FINE_STEPS));
      let cost = rest * s * s;
      for (const j of large) {
        const over = Math.abs(row[j]!) - 127 * s;
        if (over > 0) cost += energies[j]! * over * over;
      }
      cost += leaderCost(s, least - cost);
      if (cost < least) {
        least = cost;
        best = s;
      }
    }
    return best;
  };
}

/** The nearest integer within +-127. At ties both are equally far, so either will do for a cost. */
function nearestCode(t: number): number {
  return Math.max(-127, Math.min(127, Math.floor(t + 0.5)));
}
