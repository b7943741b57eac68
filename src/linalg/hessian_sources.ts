/** Hessians from what users have: a matrix, statistics of channels. (Inputs: `addGram` in `hessian.ts`.) */

import type { Hessian } from "./hessian.ts";
import { SOLO, type Team, triangleShareOf } from "./team.ts";

/** Numbers that are no statistics of inputs. */
export class BadStatisticError extends RangeError {
  override readonly name = "BadStatisticError";
  /** The fault, without the action. */
  readonly rule: string;

  constructor(action: string, rule: string) {
    super(`${action}: ${rule}`);
    this.rule = rule;
  }
}

/** Relative difference of mirrored elements that rounding to F32 or BF16 along the way may explain. */
const SYMMETRY_TOLERANCE = 1e-2;

/**
 * Checks a given matrix and makes it exactly symmetric, in place. Whether it is positive definite, the
 * factorisation shows. Ends in a barrier.
 *
 * @param values f64 `[size * size]`, shared by the team.
 * @param firstChannel what indices in messages begin with, if this is a segment of a larger matrix.
 * @throws RangeError if the length is wrong; BadStatisticError if a value is not finite, a diagonal
 * element is negative, mirrored elements differ by more than {@link SYMMETRY_TOLERANCE}, or an element is
 * larger than its diagonal elements allow in a positive semidefinite matrix.
 */
export function hessianFromMatrix(
  values: Float64Array,
  size: number,
  { team = SOLO, firstChannel = 0 }: { team?: Team; firstChannel?: number } = {},
): Hessian {
  requireLength("hessian", values, size * size);
  const { start, end } = triangleShareOf(team, size);
  for (let i = start; i < end; i++) {
    const diagonal = values[i * size + i]!;
    if (!(diagonal >= 0 && diagonal < Infinity)) {
      const at = `hessian[${firstChannel + i}, ${firstChannel + i}]`;
      const rule = `${at} is ${diagonal}, needs a finite number, 0 or more`;
      throw new BadStatisticError("Cannot use Hessian", rule);
    }
  }
  team.barrier(); // every diagonal element is checked before it is relied on
  const roots = new Float64Array(size);
  for (let i = 0; i < size; i++) roots[i] = Math.sqrt(values[i * size + i]!);
  for (let top = start; top < end; top += TILE) {
    const bottom = Math.min(end, top + TILE);
    for (let left = 0; left < bottom; left += TILE) {
      for (let i = top; i < bottom; i++) {
        const right = Math.min(left + TILE, i), largest = roots[i]!;
        for (let j = left; j < right; j++) {
          const below = values[i * size + j]!, above = values[j * size + i]!;
          const limit = largest * roots[j]!, mean = (below + above) / 2;
          const fits = Math.abs(below - above) <= SYMMETRY_TOLERANCE * limit &&
            Math.abs(mean) <= (1 + SYMMETRY_TOLERANCE) * limit;
          if (!fits) refuse([firstChannel + i, firstChannel + j], below, above, limit);
          values[i * size + j] = mean;
          values[j * size + i] = mean;
        }
      }
    }
  }
  team.barrier();
  return { size, blockSize: size, values, source: "hessian" };
}

/** Rows and columns that are mirrored at once: one side is read across rows, which the cache must hold. */
const TILE = 32;

/** Throws what is wrong with two mirrored elements, of which `limit` is the most that fits the diagonal. */
function refuse(
  [i, j]: readonly [number, number],
  below: number,
  above: number,
  limit: number,
): never {
  const at = `hessian[${i}, ${j}]`, mean = (below + above) / 2;
  const rule = !Number.isFinite(below) || !Number.isFinite(above)
    ? `${at} is ${below + above}, needs a finite number`
    : Math.abs(below - above) > SYMMETRY_TOLERANCE * limit
    ? `not symmetric, ${at} is ${below}, hessian[${j}, ${i}] is ${above}`
    : `not positive semidefinite, ${at} is ${mean}, at most ${limit} fits its diagonal`;
  throw new BadStatisticError("Cannot use Hessian", rule);
}

/**
 * Returns the diagonal Hessian of squared channel magnitudes.
 *
 * @param magnitudes per channel a finite number, 0 or more: its maximum, mean absolute value or root mean
 * square. Only ratios between channels matter.
 * @throws BadStatisticError naming the first magnitude that is not one.
 */
export function hessianFromChannels(magnitudes: ArrayLike<number>, values: Float64Array): Hessian {
  const size = magnitudes.length;
  requireLength("channels", values, size);
  for (let i = 0; i < size; i++) {
    const magnitude = magnitudes[i]!;
    if (!(magnitude >= 0 && magnitude < Infinity)) {
      throw new BadStatisticError(
        "Cannot make Hessian",
        `channel ${i} is ${magnitude}, needs a finite number, 0 or more`,
      );
    }
    values[i] = magnitude * magnitude;
  }
  return { size, blockSize: 1, values, source: "channels" };
}

function requireLength(what: string, values: Float64Array, need: number): void {
  if (values.length !== need) {
    throw new RangeError(
      `Cannot make Hessian: ${what} has ${values.length} elements, needs ${need}`,
    );
  }
}
