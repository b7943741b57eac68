/**
 * The rate from step to step, by the documented schedules. Multiplications and square roots only, so that
 * every engine takes the same steps.
 */

import type { ScheduleOptions } from "./options.ts";

/** From so many failed steps in a row on: what the rate is multiplied by, and where that ends. */
type Tier = readonly [failures: number, factor: number, bound: number];

/** After an improvement: the longer there was none, the larger the next step. */
const IMPROVED: readonly Tier[] = [
  [0, 1.25, 100],
  [50, 1.375, 100],
  [75, 1.5, 100],
  [100, 1.75, 100],
  [125, 2, 100],
  [150, 2.25, 100],
  [200, 2.5, 100],
  [250, 2.75, 100],
  [300, 3, 100],
];

/** After none: quickly at first, then slower and slower. */
const FAILED: readonly Tier[] = [
  [0, 0.95, 9e-8],
  [26, 0.97, 8e-8],
  [51, 0.985, 7e-8],
  [76, 0.9875, 6e-8],
  [101, 0.98875, 5e-8],
  [151, 0.99, 4e-8],
  [201, 0.99125, 3e-8],
  [251, 0.9925, 2e-8],
  [301, 0.995, 5e-9],
];

function tierOf(tiers: readonly Tier[], failures: number): Tier {
  return tiers.findLast(([from]) => failures >= from)!;
}

/** The rate of one layer's steps. */
export interface Schedule {
  /** The rate of the next step. */
  readonly lr: number;
  /**
   * Takes the result of a step.
   *
   * @param loss of its rounded codes, relative to rounding to nearest; infinity if they are not allowed.
   * @param improved whether they are the best so far.
   */
  step(loss: number, improved: boolean): void;
}

/** Returns a schedule that begins at `lr`; `aspect` is the longer side of the layer by the shorter. */
export function createSchedule(options: ScheduleOptions, lr: number, aspect: number): Schedule {
  switch (options.kind) {
    case "adaptive":
      return new Adaptive(lr, options.mode === "simple-reset");
    case "exponential":
      return new Exponential(lr, options.gamma);
    case "plateau":
      return new Plateau(lr, options, aspect);
  }
}

class Adaptive implements Schedule {
  lr: number;
  readonly #resets: boolean;
  #failures = 0;

  constructor(lr: number, resets: boolean) {
    this.lr = lr;
    this.#resets = resets;
  }

  step(_loss: number, improved: boolean): void {
    if (improved) {
      const [, factor, most] = tierOf(IMPROVED, this.#failures);
      this.lr = Math.min(Math.max(this.lr, most), this.lr * factor);
      if (this.#resets) this.#failures = 0;
      return;
    }
    this.#failures++;
    const [, factor, least] = tierOf(FAILED, this.#failures);
    this.lr = Math.max(Math.min(this.lr, least), this.lr * factor);
  }
}

class Exponential implements Schedule {
  lr: number;
  readonly #gamma: number;

  constructor(lr: number, gamma: number) {
    this.lr = lr;
    this.#gamma = gamma;
  }

  step(): void {
    this.lr *= this.#gamma;
  }
}

class Plateau implements Schedule {
  lr: number;
  readonly #options: Extract<ScheduleOptions, { kind: "plateau" }>;
  readonly #factor: number;
  #best = Infinity;
  #bad = 0;
  #cooldown = 0;

  constructor(lr: number, options: Extract<ScheduleOptions, { kind: "plateau" }>, aspect: number) {
    this.lr = lr;
    this.#options = options;
    // A layer of aspect 4 at influence 1 loses twice what a square one loses.
    const stretch = 1 + options.shapeInfluence * (Math.sqrt(aspect) - 1);
    this.#factor = Math.max(0, 1 - (1 - options.factor) * stretch);
  }

  step(loss: number): void {
    const { threshold, thresholdMode, patience, cooldown, min } = this.#options;
    const margin = thresholdMode === "rel" && this.#best < Infinity
      ? this.#best * threshold
      : threshold;
    if (loss < this.#best - margin || (this.#best === Infinity && loss < Infinity)) {
      this.#best = loss;
      this.#bad = 0;
    } else this.#bad++;
    if (this.#cooldown > 0) {
      this.#cooldown--;
      this.#bad = 0;
    }
    if (this.#bad <= patience) return;
    this.lr = Math.max(min, this.lr * this.#factor);
    this.#cooldown = cooldown;
    this.#bad = 0;
  }
}
