/**
 * How far calibration data is trusted: how much damping a Hessian gets, and what pairs of channels count.
 *
 * Data may be of another distribution than what the model will see. What compensation then does is noise: it
 * makes the weight error larger, and the output error with it. Rotation spreads loud channels over all, so
 * little can go wrong there. In original space the data says which channels are loud, and weights are
 * clipped and moved for their sake; with the least damping, inputs with other loud channels leave errors up
 * to 1.25 times those without data. The numbers here keep them below 1.1 times, and cost 3% (one scale) to
 * 11% (rows, blocks) of the error with the right data. `deno task bench --only quality` measures both.
 *
 * One scale for a whole layer clips much, and making up for that is most of what is gained there: damping
 * takes more of it than letting pairs of channels count less.
 */

import { DAMPING_DEFAULT } from "../linalg/damping.ts";
import type { Scheme } from "./scheme.ts";

/**
 * The damping of grids of 16 levels, whose errors are so large that more of them is to be made up for than of
 * those of INT8.
 */
const FEW_LEVELS_DAMPING = 0.03;

/** How far a Hessian is trusted. */
export interface Trust {
  /** Fraction of the mean diagonal that is added to the diagonal, to begin with. */
  readonly damping: number;
  /** Elements off the diagonal are multiplied by this, besides what follows from the number of inputs. */
  readonly pairs: number;
}

/** Returns how far the data of a layer is trusted that is stored as `scheme` says. */
export function trustOf(
  { scaling, convrotGroupSize, transform, levels }: Pick<
    Scheme,
    "scaling" | "convrotGroupSize" | "transform" | "levels"
  >,
): Trust {
  if (levels?.bits === 4) return { damping: FEW_LEVELS_DAMPING, pairs: 1 };
  if (convrotGroupSize !== null || transform !== undefined) {
    return { damping: DAMPING_DEFAULT, pairs: 1 };
  }
  if (scaling.kind === "tensor") return { damping: DAMPING_DEFAULT, pairs: 0.7 };
  return { damping: 0.7, pairs: 1 };
}
