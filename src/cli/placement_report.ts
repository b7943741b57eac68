/** What goes to the GPU and what does not, as lines for people and as JSON. Pure. */

import {
  HALF_WIDTH_KINDS,
  type OperationKind,
  type PlacementRules,
  sizeUnit,
} from "../pipeline/gpu_placement.ts";

/** The operations that there are, in words. `ortho`: nothing here makes such matrices. */
const NAMES: Readonly<Partial<Record<OperationKind, string>>> = {
  hadamard: "Hadamard transforms",
  hessian: "Hessians",
  ldlq: "GPTQ and LDLQ",
};

const KINDS = Object.keys(NAMES) as (keyof typeof NAMES)[];

/** Returns what `--verbose VERBOSE` says of the rules. */
export function placementLines(rules: PlacementRules): string[] {
  return KINDS.map((kind) => {
    const { most, origin } = rules.kinds[kind];
    const limit = most === Infinity ? "of any size" : `up to ${most} ${sizeUnit(kind)}`;
    const half = HALF_WIDTH_KINDS.includes(kind) ? `; ${halfText(rules, kind)}` : "";
    return `gpu: ${NAMES[kind]} ${limit} (${origin})${half}`;
  });
}

function halfText({ settings, kinds }: PlacementRules, kind: OperationKind): string {
  const { half, leastHalf } = kinds[kind];
  if (settings.halfWidth === "off") return "in f32";
  if (settings.halfWidth === "on") return `in ${half}`;
  return `in ${half} from ${leastHalf.elements} elements on where f32 would not fit`;
}

/** Returns the rules as `--json` has them in the event `start`; null for no limit. */
export function placementJson(rules: PlacementRules): Readonly<Record<string, unknown>> {
  const { settings, kinds } = rules;
  const finite = (value: number) => Number.isFinite(value) ? value : null;
  return {
    streaming_mode: settings.mode,
    memory_limits: settings.hasLimits,
    bf16_compute: settings.halfWidth,
    operations: Object.fromEntries(KINDS.map((kind) => {
      const { most, origin, half, leastHalf } = kinds[kind];
      const isHalf = Number.isFinite(leastHalf.elements);
      return [kind, {
        most: finite(most),
        unit: sizeUnit(kind),
        origin,
        half_width: isHalf ? half : null,
        half_width_elements: isHalf ? leastHalf.elements : null,
        half_width_above: isHalf ? finite(leastHalf.above) : null,
      }];
    })),
  };
}
