/** Which work of a conversion a GPU gets, if it proves that it computes it rightly. */

import { gpuWorkOf, placeOnGpu } from "../run/gpu_tasks.ts";
import { makeTasks, type Work } from "../run/make_tasks.ts";
import type { GpuService } from "../run/workers/gpu_service.ts";
import { loadKindsFor, loadMoreKinds } from "../run/loaded_kinds.ts";
import type { Plan } from "../plan/plan.ts";
import type { Prepared } from "./prepare.ts";

/** Returns `gpu` if it works, and computes rightly what the run needs; else null. */
export async function provenGpu(
  gpu: GpuService | null,
  { measure = false }: { readonly measure?: boolean },
  prepared: Prepared,
): Promise<GpuService | null> {
  if (gpu === null) return null;
  const needs = gpuWorkOf((await tasksOf(gpu, prepared, prepared.plan)).tasks);
  if (measure && prepared.calibration !== null) needs.add("measuring");
  return await gpu.prove([...needs]) ? gpu : null;
}

/** The work of `plan`, with what suits `gpu` marked; null: there is none. Its code is loaded. */
export async function tasksOf(
  gpu: GpuService | null,
  prepared: Prepared,
  plan: Plan,
): Promise<Work> {
  // Layers that are compensated are put in order by the memory that they take, which their code knows.
  if (prepared.calibration !== null || prepared.calibrated.size > 0) await loadMoreKinds();
  const work = makeTasks(
    plan,
    prepared.matrixOf,
    prepared.compensationOf,
    prepared.replaced,
    prepared.byExpert,
  );
  await loadKindsFor(work.tasks);
  if (gpu === null) return work;
  return { ...work, tasks: placeOnGpu(work.tasks, gpu.placement) };
}
