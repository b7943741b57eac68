/** Which work of a conversion a GPU gets, if it proves that it computes it rightly. */

import { gpuWorkOf, placeOnGpu } from "../run/gpu_tasks.ts";
import { makeTasks, type Work } from "../run/make_tasks.ts";
import type { GpuService } from "../run/workers/gpu_service.ts";
import { loadMoreKinds } from "../run/loaded_kinds.ts";
import type { Plan, PlannedOutput } from "../plan/plan.ts";
import type { Prepared } from "./prepare.ts";

/** Returns `gpu` if it works, and computes rightly what the run needs; else null. */
export async function provenGpu(
  gpu: GpuService | null,
  { measure = false }: { readonly measure?: boolean },
  prepared: Prepared,
): Promise<GpuService | null> {
  if (gpu === null) return null;
  const needs = gpuWorkOf(tasksOf(gpu, prepared, prepared.plan).tasks);
  if (measure && prepared.calibration !== null) needs.add("measuring");
  return await gpu.prove([...needs]) ? gpu : null;
}

/** Loads the code that the work of a plan needs besides rounding to nearest, so that it can be cut into tasks. */
export async function loadKindsOf({ calibration, plan }: Prepared): Promise<void> {
  const isNamed = ({ content }: PlannedOutput): boolean => {
    if (content.kind !== "codes") return false;
    const { transform, learned, levels, floats } = content.scheme;
    return [transform, learned, levels, floats].some((method) => method !== undefined);
  };
  if (calibration !== null || plan.outputs.some(isNamed)) await loadMoreKinds();
}

/** The work of `plan`, with what suits `gpu` marked; null: there is none. */
export function tasksOf(gpu: GpuService | null, prepared: Prepared, plan: Plan): Work {
  const work = makeTasks(
    plan,
    prepared.matrixOf,
    prepared.compensationOf,
    prepared.replaced,
    prepared.byExpert,
  );
  if (gpu === null) return work;
  return { ...work, tasks: placeOnGpu(work.tasks, gpu.placement) };
}
