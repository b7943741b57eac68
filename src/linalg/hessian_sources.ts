/** Hessians from what users have: a matrix, statistics of channels. (Inputs: `addGram` in `hessian.ts`.) */

import type { Hessian } from "./hessian.ts";
import { SOLO, type Team, triangleShareOf } from "./team.ts";

/** Numbers that are no statistics of inputs. */
export class BadStatisticError extends RangeError {
  override readonly name = "BadStatisticError";
  /** What is wrong, without the action. */
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
 * factorisation tells. Ends in a barrier.
 *
 * @param values f64 `[size * size]`, shared by the team.
 * @param firstChannel what indices in messages begin with, where this is a segment of a larger matrix.
 * @throws RangeError where the length is wrong; BadStatisticError where a value is not finite, a diagonal
 * element is negative, mirrored elements differ by more than {@link SYMMETRY_TOLERANCE}, or an element is
 * larger than its diagonal elements allow in a positive semidefinite matrix.
 */
export function hessianFromMatrix(
  values: Float64Array,
  size: number,
  { team = SOLO, firstChannel = 0 }: { team?: Team; firstChannel?: number } = {},
): Hessian {
  requireLength("hessian", values, size * size);
  const at = (i: number, j: number) => `hessian[${firstChannel + i}, ${firstChannel + j}]`;
  const refuse = (rule: string): never => {
    throw new BadStatisticError("Cannot use Hessian", rule);
  };
  const { start, end } = triangleShareOf(team, size);
  for (let i = start; i < end; i++) {
    const diagonal = values[i * size + i]!;
    if (!(diagonal >= 0 && diagonal < Infinity)) {
      refuse(`${at(i, i)} is ${diagonal}, needs a finite number, 0 or more`);
    }
  }
  team.barrier(); // every diagonal element is checked before it is relied on
  for (let i = start; i < end; i++) {
    for (let j = 0; j < i; j++) {
      const below = values[i * size + j]!, above = values[j * size + i]!;
      const largest = Math.sqrt(values[i * size + i]! * values[j * size + j]!);
      if (!Number.isFinite(below) || !Number.isFinite(above)) {
        refuse(`${at(i, j)} is ${below + above}, needs a finite number`);
      }
      if (Math.abs(below - above) > SYMMETRY_TOLERANCE * largest) {
        refuse(`not symmetric, ${at(i, j)} is ${below}, ${at(j, i)} is ${above}`);
      }
      const mean = (below + above) / 2;
      if (Math.abs(mean) > (1 + SYMMETRY_TOLERANCE) * largest) {
        refuse(
          `not positive semidefinite, ${at(i, j)} is ${mean}, ` +
            `at most ${largest} fits its diagonal`,
        );
      }
      values[i * size + j] = mean;
      values[j * size + i] = mean;
    }
  }
  team.barrier();
  return { size, blockSize: size, values, source: "hessian" };
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
