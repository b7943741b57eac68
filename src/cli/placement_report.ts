/** The operations on the GPU and on the CPU, as lines for people and as JSON. Pure. */

import { rowsOf } from "../formats/layer_shapes.ts";
import {
  type Operation,
  OPERATION_KINDS,
  type OperationKind,
  type PlacementRules,
  placeOperation,
  sizeUnit,
} from "../run/gpu_placement.ts";
import type { Plan } from "../plan/plan.ts";
import type { Scheme } from "../quant/scheme.ts";
import { visible } from "./format.ts";

/** The operations, in words. */
const NAMES: Readonly<Record<OperationKind, string>> = {
  hadamard: "Hadamard transforms",
  hessian: "Hessians",
  ldlq: "GPTQ and LDLQ",
};

/** Returns what `--verbose VERBOSE` says of the rules. */
export function placementLines(rules: PlacementRules): string[] {
  return OPERATION_KINDS.map((kind) => {
    const { most, origin } = rules.kinds[kind];
    const limit = most === Infinity ? "of any size" : `up to ${most} ${sizeUnit(kind)}`;
    const half = kind === "ldlq" ? `; ${halfText(rules)}` : "";
    return `gpu: ${NAMES[kind]} ${limit} (${origin})${half}`;
  });
}

/** An operation of a layer that is too large for the GPU. */
export interface OperationOnCpu {
  /** The tensor. */
  readonly name: string;
  readonly operation: OperationKind;
  readonly why: string;
}

/** Returns what of the work that `plan` has for a GPU is too large for it. */
export function operationsOnCpu(
  rules: PlacementRules,
  plan: Pick<Plan, "tensors">,
): OperationOnCpu[] {
  return plan.tensors.flatMap(({ source, scheme }) =>
    operationsOf(source.shape, scheme).flatMap((operation): OperationOnCpu[] => {
      const { device, why } = placeOperation(rules, operation);
      return device === "gpu" ? [] : [{ name: source.name, operation: operation.kind, why }];
    })
  );
}

/** The operations of a layer that the rules are about. */
function operationsOf(shape: readonly number[], scheme: Scheme | null): Operation[] {
  const { rows, cols } = rowsOf(shape);
  if (scheme === null) return [];
  const { method, transform } = scheme;
  const stored = transform ?? { rows, cols };
  const elements = stored.rows * stored.cols;
  const isCompensated = method === "gptq" || method === "quip";
  return [
    ...(transform === undefined
      ? []
      : [{ kind: "hadamard" as const, elements, dimension: stored.cols }]),
    ...(isCompensated
      ? [
        { kind: "hessian" as const, elements: cols * cols, dimension: cols },
        { kind: "ldlq" as const, elements, dimension: stored.cols },
      ]
      : []),
  ];
}

/** Returns what `--verbose VERBOSE` says of operations that are too large. */
export function operationLines(operations: readonly OperationOnCpu[]): string[] {
  return operations.map(({ name, operation, why }) =>
    `${visible(name)}: ${NAMES[operation]} on the CPU: ${why}`
  );
}

function halfText({ settings, half }: PlacementRules): string {
  if (half === null) return "in f32";
  if (settings.halfWidth === "on") return `in ${half.storage}`;
  return `in ${half.storage} from ${half.leastElements} elements on if f32 would not fit`;
}

/** Returns the rules as `--json` has them in the event `start`; null for no limit. */
export function placementJson(
  rules: PlacementRules,
  onCpu: readonly OperationOnCpu[],
): Readonly<Record<string, unknown>> {
  const { settings, kinds } = rules;
  const finite = (value: number) => Number.isFinite(value) ? value : null;
  return {
    streaming_mode: settings.mode,
    memory_limits: settings.hasLimits,
    bf16_compute: settings.halfWidth,
    on_cpu: onCpu,
    operations: Object.fromEntries(OPERATION_KINDS.map((kind) => {
      const { most, origin } = kinds[kind];
      const half = kind === "ldlq" ? rules.half : null;
      return [kind, {
        most: finite(most),
        unit: sizeUnit(kind),
        origin,
        half_width: half?.storage ?? null,
        half_width_elements: half?.leastElements ?? null,
        half_width_above: half?.aboveColumns ?? null,
      }];
    })),
  };
}
