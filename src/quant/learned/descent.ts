/**
 * `original`: coordinate descent over the codes themselves. The documented projected gradient moves real
 * numbers and rounds them afterwards; this visits every code, on one of the two grid points around its
 * weight, and moves it to the other one if
 *
 *     loss + penalty * ‖Ŵ - W‖²,    penalty = unit * LR_DEFAULT / lr
 *
 * falls, each move seeing those before it. So the rate says how far codes may stray from their weights
 * for the sake of the loss: a proximal step. A step visits one panel of the columns, some thirty make a
 * round. A few rounds reach what thousands of gradient steps do not.
 */

import type { Layer, Objective } from "./layer.ts";
import { LR_DEFAULT } from "./options.ts";
import type { Stepper } from "./search.ts";

/** Factor of the penalty while codes are farther from their weights than is allowed. */
const PULL_BACK = 2;

/**
 * Once the limit on the error has been met, the penalty is kept where it is just used up: raised while codes
 * are beyond, lowered while they are well within. Without this, a falling rate would let codes drift back.
 */
const UP = 1.02, DOWN = 0.96, WELL_WITHIN = 0.999;

/** Panels of a round, about. */
const PANELS = 32;

/** Panels of wide layers are whole tiles of the kernels. */
const TILE = 64;

/** Returns the columns of a step. */
export function panelWidth(cols: number): number {
  const width = Math.ceil(cols / PANELS), unit = width > TILE ? TILE : 4;
  return Math.min(cols, Math.ceil(width / unit) * unit);
}

/** Returns the steps of `original`. */
export function descent({ grid }: Layer, objective: Objective): Stepper {
  const width = panelWidth(grid.cols), round = Math.ceil(grid.cols / width);
  let pressure = 1, wasBeyond = false;
  return {
    round,
    step: (index, lr, use) => {
      if (use > 1) {
        wasBeyond = true;
        pressure *= UP;
      } else if (wasBeyond && use < WELL_WITHIN) pressure *= DOWN;
      const first = (index % round) * width;
      const cols = Math.min(width, grid.cols - first);
      const penalty = objective.unit * (LR_DEFAULT / lr);
      return objective.descend(first, cols, penalty * pressure * (use > 1 ? PULL_BACK : 1)).cost;
    },
  };
}
