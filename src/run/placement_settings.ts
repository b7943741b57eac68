/**
 * What users say of the placement on a GPU, and what holds if they say nothing. Apart from the rules, which
 * need all kinds of work: the table of flags has the defaults, and every `--help` loads it.
 */

/** `--streaming-mode`. */
export type StreamingMode = "off" | "minimal" | "balanced" | "aggressive" | "auto";

/**
 * Operations that are placed: Hadamard transforms; second moments of inputs; rounding with compensated
 * errors. Round to nearest is cut into chunks, which nothing limits.
 */
export type OperationKind = "hadamard" | "hessian" | "ldlq";

/** All of them, in the order they are reported. */
export const OPERATION_KINDS: readonly OperationKind[] = Object.freeze([
  "hadamard",
  "hessian",
  "ldlq",
]);

/** The settings of the user. */
export interface PlacementSettings {
  /** Which thresholds count. */
  readonly mode: StreamingMode;
  /** `--stream-...-threshold`: elements for `hadamard`, else a dimension. Absent: as the mode has it. */
  readonly thresholds: Readonly<Partial<Record<OperationKind, number>>>;
  /** False: `--no-memory-limits`. */
  readonly hasLimits: boolean;
  /** `--bf16-compute`. */
  readonly halfWidth: "auto" | "on" | "off";
  /** Elements of a layer from which `auto` may store its rounding errors in half width. */
  readonly halfThreshold: number;
}

/** The documented defaults. */
export const DEFAULT_PLACEMENT: PlacementSettings = Object.freeze({
  mode: "balanced",
  thresholds: Object.freeze({}),
  hasLimits: true,
  halfWidth: "auto",
  halfThreshold: 1_000_000,
});
