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
import { type GpuPlacement, placementWithin } from "./gpu_tasks.ts";

/** `--streaming-mode`. */
export type StreamingMode = "off" | "minimal" | "balanced" | "aggressive" | "auto";

/**
 * Operations that are placed: Hadamard transforms; second moments of inputs; rounding with compensated
 * errors; random
 * orthogonal matrices, of which nothing here makes any; round to nearest, which is cut into chunks.
 */
export const OPERATION_KINDS = Object.freeze(
  ["hadamard", "hessian", "ldlq", "ortho", "quantize"] as const,
);

export type OperationKind = (typeof OPERATION_KINDS)[number];

/** Those with a threshold of their own. */
export type ThresholdKind = "hadamard" | "hessian" | "ldlq" | "ortho";

/** The settings of the user. */
export interface PlacementSettings {
  /** Which thresholds count. */
  readonly mode: StreamingMode;
  /** `--stream-...-threshold`: elements for `hadamard`, else a dimension. Absent: as the mode has it. */
  readonly thresholds: Readonly<Partial<Record<ThresholdKind, number>>>;
  /** False: `--no-memory-limits`. */
  readonly hasLimits: boolean;
  /** `--bf16-compute`. */
  readonly halfWidth: "auto" | "on" | "off";
  /** Elements from which `auto` may store an operation in half width. */
  readonly halfThresholds: Readonly<Record<"hadamard" | "hessian" | "other", number>>;
  /** How Hadamard transforms in half width would be stored. */
  readonly hadamardStorage: "bf16" | "f16";
}

/** The documented defaults. */
export const DEFAULT_PLACEMENT: PlacementSettings = Object.freeze({
  mode: "balanced",
  thresholds: Object.freeze({}),
  hasLimits: true,
  halfWidth: "auto",
  halfThresholds: Object.freeze({ hadamard: 500_000, hessian: 1_000_000, other: 1_000_000 }),
  hadamardStorage: "bf16",
});

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

/** Operations whose kernels can store intermediates in half width. */
export const HALF_WIDTH_KINDS: readonly OperationKind[] = Object.freeze(["ldlq"]);

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
  /** The same for one that is stored in half width. */
  readonly mostHalf: number;
  /** Origin of the limit, in the user's words. */
  readonly origin: string;
  /** How half width is stored. */
  readonly half: Exclude<GpuStorage, "f32">;
  /** Half width from this many elements on, and only above that size. Infinity: never. */
  readonly leastHalf: { readonly elements: number; readonly above: number };
}

/** Settings and an adapter, worked out. */
export interface PlacementRules {
  readonly settings: PlacementSettings;
  readonly adapter: AdapterLimits;
  readonly kinds: Readonly<Record<OperationKind, KindRule>>;
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
  return { settings, adapter, kinds: Object.fromEntries(kinds) };
}

function kindRule(
  kind: OperationKind,
  settings: PlacementSettings,
  adapter: AdapterLimits,
): KindRule {
  const { mode, hasLimits, halfWidth, halfThresholds } = settings;
  const override = kind === "quantize" ? undefined : settings.thresholds[kind];
  const threshold = override ?? modeThreshold(mode, kind);
  const fitting = fittingSize(adapter, kind);
  const origin = !hasLimits
    ? "--no-memory-limits"
    : fitting <= threshold
    ? `the buffers of ${adapter.name}`
    : override === undefined
    ? `--streaming-mode ${mode}`
    : `--stream-${kind}-threshold`;
  const never = { elements: Infinity, above: Infinity };
  return {
    most: hasLimits ? Math.min(threshold, fitting) : Infinity,
    mostHalf: hasLimits ? Math.min(threshold, 2 * fitting) : Infinity,
    origin,
    // f16 keeps three bits more than bf16. No shader needs the feature for it, and codes must not depend
    // on what an adapter has.
    half: kind === "hadamard" ? settings.hadamardStorage : "f16",
    leastHalf: halfWidth === "off" || !HALF_WIDTH_KINDS.includes(kind)
      ? never
      : halfWidth === "on"
      ? { elements: 0, above: 0 }
      : {
        elements: kind === "hadamard" || kind === "hessian"
          ? halfThresholds[kind]
          : halfThresholds.other,
        above: fitting,
      },
  };
}

/** Limit by the mode; round to nearest comes in chunks, which no mode limits. */
function modeThreshold(mode: StreamingMode, kind: OperationKind): number {
  if (mode === "auto" || kind === "quantize") return Infinity;
  const { hadamard, gpuBytes } = MODES[mode];
  return kind === "hadamard" ? hadamard : Math.floor(Math.sqrt(gpuBytes * MATRIX_SHARE / 4));
}

/** Capacity of the buffers of an adapter in f32. */
function fittingSize({ limits }: AdapterLimits, kind: OperationKind): number {
  const { maxElements, mostLdlq, mostHessian } = placementWithin(limits);
  const sizes: Record<OperationKind, number> = {
    hadamard: maxElements,
    quantize: maxElements,
    ldlq: mostLdlq,
    hessian: mostHessian,
    ortho: Math.floor(Math.sqrt(maxElements)),
  };
  return sizes[kind];
}

/** Unit of the sizes of a kind. */
export function sizeUnit(kind: OperationKind): "elements" | "columns" {
  return kind === "hadamard" || kind === "quantize" ? "elements" : "columns";
}

/**
 * Returns if `operation` is done. In half width if it is asked for (`on`), or if f32 would not fit
 * the buffers of the adapter (`auto`, from the documented number of elements on): output errors stay within
 * 2% then, but the codes are no longer those of the CPU.
 */
export function placeOperation(rules: PlacementRules, operation: Operation): Placement {
  const { kind, elements, dimension } = operation;
  const { most, mostHalf, origin, half, leastHalf } = rules.kinds[kind];
  const unit = sizeUnit(kind);
  const size = unit === "elements" ? elements : dimension;
  const isHalf = elements >= leastHalf.elements && size > leastHalf.above;
  const limit = isHalf ? mostHalf : most;
  if (size > limit) {
    const why = `${size} ${unit}, more than the ${limit} that ${origin} allows`;
    return { device: "cpu", storage: "f32", why };
  }
  const why = limit === Infinity
    ? `${size} ${unit}, of any number (${origin})`
    : `${size} ${unit}, of at most ${limit} (${origin})`;
  return { device: "gpu", storage: isHalf ? half : "f32", why };
}

/** Returns the rules in the form that tasks are placed by. */
export function gpuPlacementOf({ kinds, adapter, settings }: PlacementRules): GpuPlacement {
  const within = placementWithin(adapter.limits);
  const mostElements = settings.hasLimits ? within.linalg.mostElements : Infinity;
  const { ldlq, hessian, hadamard } = kinds;
  const { elements, above } = ldlq.leastHalf;
  return {
    ...within,
    mostLdlq: ldlq.most,
    mostHessian: hessian.most,
    half: elements === Infinity ? null : {
      storage: ldlq.half,
      leastElements: elements,
      aboveColumns: above,
      mostColumns: ldlq.mostHalf,
    },
    linalg: { ...within.linalg, mostHadamard: hadamard.most, mostElements },
  };
}
