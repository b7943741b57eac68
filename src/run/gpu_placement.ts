/**
 * How large an operation may be on the GPU before it runs on the CPU, and how its large intermediates are
 * stored there: `--streaming-mode` with its overrides, `--no-memory-limits` and `--bf16-compute` with its
 * thresholds, turned into decisions. Pure, and plain data that crosses to workers.
 *
 * WebGPU reports the largest buffer of an adapter and how much of one a kernel may see at once, but neither
 * how much memory there is nor how much of it is free. So `auto` goes by these limits alone; a device that
 * has no memory left says so when it is too late, and the CPU then does the work.
 */

import type { GpuStorage } from "./gpu_requests.ts";
import { type GpuPlacement, type HalfWidth, placementWithin } from "./gpu_tasks.ts";
import {
  OPERATION_KINDS,
  type OperationKind,
  type PlacementSettings,
  type StreamingMode,
} from "./placement_settings.ts";

export {
  DEFAULT_PLACEMENT,
  OPERATION_KINDS,
  type OperationKind,
  type PlacementSettings,
  type StreamingMode,
} from "./placement_settings.ts";

/**
 * The documented modes: elements of the largest Hadamard transform, and the memory of the smallest GPU the
 * mode is for (`off` 24 GB and more, `minimal` 12 to 16, `balanced` 8 to 12, `aggressive` below 8: taken as
 * 4). One passage of the documents has it the other way round, `aggressive` doubling what runs on the GPU;
 * the tables, which agree with one another, count.
 */
const MODES: Readonly<
  Record<
    Exclude<StreamingMode, "auto">,
    { readonly hadamard: number; readonly gpuBytes: number }
  >
> = Object.freeze({
  off: { hadamard: Infinity, gpuBytes: Infinity },
  minimal: { hadamard: 100e6, gpuBytes: 12e9 },
  balanced: { hadamard: 50e6, gpuBytes: 8e9 },
  aggressive: { hadamard: 25e6, gpuBytes: 4e9 },
});

/**
 * The documents name no dimensions for the other operations. They work on a matrix of dimension squared
 * in f32, which gets this share of the memory of the GPU that the mode is for.
 */
const MATRIX_SHARE = 1 / 4;

/** Facts of an adapter that matter here: part of `AdapterInfo`. */
export interface AdapterLimits {
  readonly name: string;
  readonly features: readonly string[];
  /** Bytes. */
  readonly limits: {
    readonly maxBufferSize: number;
    readonly maxStorageBufferBindingSize: number;
  };
}

/** Limits of one kind of operation. Infinity: no limit. */
export interface KindRule {
  /** The largest that runs on the GPU, in `sizeUnit(kind)`. */
  readonly most: number;
  /** Origin of the limit, in the user's words. */
  readonly origin: string;
}

/** Settings and an adapter, worked out. */
export interface PlacementRules {
  readonly settings: PlacementSettings;
  readonly adapter: AdapterLimits;
  readonly kinds: Readonly<Record<OperationKind, KindRule>>;
  /** Layers that are compensated in half width; null: none. */
  readonly half: HalfWidth | null;
}

/** Something to be done. */
export interface Operation {
  readonly kind: OperationKind;
  /** Elements of the matrix that is transformed or rounded. */
  readonly elements: number;
  /** Columns of a layer. */
  readonly dimension: number;
}

/** Device that does it. */
export interface Placement {
  readonly device: "gpu" | "cpu";
  /** Of large intermediates; sums are f32 always. */
  readonly storage: GpuStorage;
  /** For people. */
  readonly why: string;
}

/** Returns the rules for `settings` on `adapter`. */
export function placementRules(
  settings: PlacementSettings,
  adapter: AdapterLimits,
): PlacementRules {
  const kinds = OPERATION_KINDS.map((kind) => [kind, kindRule(kind, settings, adapter)]);
  const half = halfWidthOf(settings, adapter);
  return { settings, adapter, kinds: Object.fromEntries(kinds), half };
}

function kindRule(
  kind: OperationKind,
  settings: PlacementSettings,
  adapter: AdapterLimits,
): KindRule {
  const { mode, hasLimits } = settings;
  const override = settings.thresholds[kind];
  const threshold = thresholdOf(kind, settings);
  const fitting = fittingSize(adapter, kind);
  const origin = !hasLimits
    ? "--no-memory-limits"
    : fitting <= threshold
    ? `the buffers of ${adapter.name}`
    : override === undefined
    ? `--streaming-mode ${mode}`
    : `--stream-${kind}-threshold`;
  return { most: hasLimits ? Math.min(threshold, fitting) : Infinity, origin };
}

function halfWidthOf(settings: PlacementSettings, adapter: AdapterLimits): HalfWidth | null {
  const { halfWidth, halfThreshold, hasLimits } = settings;
  if (halfWidth === "off") return null;
  const fitting = fittingSize(adapter, "ldlq");
  const isAuto = halfWidth === "auto";
  return {
    // It keeps three bits more than bf16. No shader needs the feature for it, and codes must not depend
    // on what an adapter has.
    storage: "f16",
    leastElements: isAuto ? halfThreshold : 0,
    aboveColumns: isAuto ? fitting : 0,
    mostColumns: hasLimits ? Math.min(thresholdOf("ldlq", settings), 2 * fitting) : Infinity,
  };
}

/** Limit by the flag of the operation, or by the mode. */
function thresholdOf(kind: OperationKind, { mode, thresholds }: PlacementSettings): number {
  const override = thresholds[kind];
  if (override !== undefined) return override;
  if (mode === "auto") return Infinity;
  const { hadamard, gpuBytes } = MODES[mode];
  return kind === "hadamard" ? hadamard : Math.floor(Math.sqrt(gpuBytes * MATRIX_SHARE / 4));
}

/** Capacity of the buffers of an adapter in f32. */
function fittingSize({ limits }: AdapterLimits, kind: OperationKind): number {
  const { maxElements, mostLdlq, mostHessian } = placementWithin(limits);
  const sizes: Record<OperationKind, number> = {
    hadamard: maxElements,
    ldlq: mostLdlq,
    hessian: mostHessian,
  };
  return sizes[kind];
}

/** Unit of the sizes of a kind. */
export function sizeUnit(kind: OperationKind): "elements" | "columns" {
  return kind === "hadamard" ? "elements" : "columns";
}

/**
 * Returns if `operation` is done. In half width if it is asked for (`on`), or if f32 would not fit
 * the buffers of the adapter (`auto`, from the documented number of elements on): output errors stay within
 * 2% then, but the codes are no longer those of the CPU.
 */
export function placeOperation(rules: PlacementRules, operation: Operation): Placement {
  const { kind, elements, dimension } = operation;
  const { most, origin } = rules.kinds[kind];
  const half = kind === "ldlq" ? rules.half : null;
  const unit = sizeUnit(kind);
  const size = unit === "elements" ? elements : dimension;
  const isHalf = half !== null && elements >= half.leastElements && size > half.aboveColumns;
  const limit = isHalf ? half.mostColumns : most;
  if (size > limit) {
    const why = `${size} ${unit}, more than the ${limit} that ${origin} allows`;
    return { device: "cpu", storage: "f32", why };
  }
  const why = limit === Infinity
    ? `${size} ${unit}, of any number (${origin})`
    : `${size} ${unit}, of at most ${limit} (${origin})`;
  return { device: "gpu", storage: isHalf ? half.storage : "f32", why };
}

/** Returns the rules in the form that tasks are placed by. */
export function gpuPlacementOf(
  { kinds, half, adapter, settings }: PlacementRules,
): GpuPlacement {
  const within = placementWithin(adapter.limits);
  const mostElements = settings.hasLimits ? within.linalg.mostElements : Infinity;
  const { ldlq, hessian, hadamard } = kinds;
  return {
    ...within,
    mostLdlq: ldlq.most,
    mostHessian: hessian.most,
    half,
    linalg: { ...within.linalg, mostHadamard: hadamard.most, mostElements },
  };
}
