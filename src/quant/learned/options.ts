/** The options of learned rounding: the documented options and their defaults. */

/** How codes are moved: by coordinate descent (`original`), or by gradient steps. */
export type LearnedOptimizer = "original" | "adamw" | "radam";

/** All of them; see `descent.ts` and `gradient.ts`. */
export const LEARNED_OPTIMIZERS: readonly LearnedOptimizer[] = ["original", "adamw", "radam"];

/** Whether `method` is one of learned rounding. */
export function isLearnedOptimizer(method: string): method is LearnedOptimizer {
  return (LEARNED_OPTIMIZERS as readonly string[]).includes(method);
}

/** How the rate changes from step to step. */
export type ScheduleOptions =
  /** Up after an improvement, down after none, by tiers. */
  | { readonly kind: "adaptive"; readonly mode: "simple-reset" | "no-reset" }
  /** Times `gamma` every step. */
  | { readonly kind: "exponential"; readonly gamma: number }
  /** Times a factor after `patience` steps without a significant improvement. */
  | {
    readonly kind: "plateau";
    readonly patience: number;
    readonly factor: number;
    readonly min: number;
    readonly cooldown: number;
    readonly threshold: number;
    readonly thresholdMode: "rel" | "abs";
    /** How much more the rate falls in layers that are far from square; 0: no more. */
    readonly shapeInfluence: number;
  };

/** Options of learned rounding. */
export interface LearnedOptions {
  /** Most steps. */
  readonly iterations: number;
  /** Learning rate at the start. */
  readonly lr: number;
  /** Directions, as a share of min(N, K), within `minDirections` and `maxDirections`. */
  readonly topP: number;
  /** Fewest directions. */
  readonly minDirections: number;
  /** Most directions. */
  readonly maxDirections: number;
  /** Full instead of randomised decomposition. */
  readonly fullMatrix: boolean;
  /** How the rate changes. */
  readonly schedule: ScheduleOptions;
  /** Stop if the loss, relative to that of rounding to nearest, falls below this. */
  readonly stopLoss: number;
  /** Stop if the rate falls below this. */
  readonly stopLr: number;
  /** Stop after so many steps without an improvement. */
  readonly stopStall: number;
  /** How far the SQNR of the weights may fall below that of rounding to nearest, in dB. */
  readonly errorLimitDb: number;
}

/** The documented rate. */
export const LR_DEFAULT = 0.008077;

/** The schedules' documented defaults. */
export const SCHEDULES = Object.freeze({
  adaptive: { kind: "adaptive", mode: "simple-reset" },
  exponential: { kind: "exponential", gamma: 0.99 },
  plateau: {
    kind: "plateau",
    patience: 9,
    factor: 0.92,
    min: 1e-10,
    cooldown: 6,
    threshold: 0,
    thresholdMode: "rel",
    shapeInfluence: 1,
  },
}) satisfies { readonly [K in ScheduleOptions["kind"]]: ScheduleOptions & { kind: K } };

/** The documented defaults. */
export const DEFAULT_LEARNED_OPTIONS: LearnedOptions = Object.freeze<LearnedOptions>({
  iterations: 1000,
  lr: LR_DEFAULT,
  topP: 0.2,
  minDirections: 64,
  maxDirections: 1024,
  fullMatrix: false,
  schedule: SCHEDULES.adaptive,
  stopLoss: 1e-8,
  stopLr: 1e-10,
  stopStall: 1000,
  errorLimitDb: 0.3,
});

/** How many directions of an N x K layer count: min(most, max(fewest, floor(share * min(N, K)))). */
export function directionCount(options: LearnedOptions, rows: number, cols: number): number {
  const { topP, minDirections, maxDirections } = options;
  const share = Math.floor(topP * Math.min(rows, cols));
  return Math.min(maxDirections, Math.max(minDirections, share));
}
