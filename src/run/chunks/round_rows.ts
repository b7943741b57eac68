/**
 * Rounds rows of a layer with its factored Hessian: on the GPU, if the run has one and the layer is worth
 * it, else on the CPU. The factor is made on the CPU, in f64, and goes to the device once.
 */

import type { LinalgContext } from "../../linalg/context.ts";
import { type GptqFactor, gptqRows } from "../../quant/gptq.ts";
import type { GptqRows, RowLevels } from "../../quant/rows_in_order.ts";
import { ldlqCheck } from "../checks/ldlq_check.ts";
import { placeOf, type RequestedLevels } from "../gpu_requests.ts";
import type { QuantizeTask } from "../tasks.ts";
import type { ChunkContext, TeamContext } from "./chunk_context.ts";
import { unitColsOf } from "./compensated_task.ts";

/** A factor, and where it lies. */
export interface PlacedFactor {
  readonly factor: GptqFactor;
  /** By what the GPU knows it; null: it does not have it. */
  readonly onGpu: string | null;
  /** The layer. */
  readonly task: QuantizeTask;
}

/** Some rows that are rounded with it. */
export interface PlacedRows extends GptqRows {
  /** Whether weights become errors. */
  readonly errors: boolean;
  /** Row of the layer that the first of these is; `firstRow` counts from where the scales begin. */
  readonly layerRow: number;
}

/** Gives `factor` to the GPU, if `task` says so. Every worker of the team calls it. */
export function placeFactor(
  team: TeamContext,
  task: QuantizeTask,
  factor: GptqFactor,
): PlacedFactor {
  const { gpu, linalg } = team;
  const { onGpu } = task;
  const { size, blockSize, values, order } = factor;
  // Groups that choose their sets lie within a block.
  const areWhole = blockSize % unitColsOf(task) === 0;
  if (gpu === null || onGpu === undefined || factor.report.fallback !== null || !areWhole) {
    return { factor, task, onGpu: null };
  }
  const isThere = linalg.team.index === 0 && gpu.run({
    op: "factor",
    name: task.name,
    size,
    blockSize,
    values: placeOf(values),
    order,
    storage: onGpu.storage,
  });
  return { factor, task, onGpu: linalg.team.max(isThere ? 1 : 0) === 1 ? task.name : null };
}

/** Takes a factor from the GPU again. Every worker of the team calls it, after its last rows. */
export function dropFactor({ gpu, linalg }: TeamContext, { onGpu }: PlacedFactor): void {
  if (gpu === null || onGpu === null) return;
  linalg.team.barrier(); // others may still be rounding with it
  if (linalg.team.index === 0) gpu.run({ op: "drop", name: onGpu });
}

/**
 * Rounds `rows`, as `gptqRows` does. `weights` become what rounding took from them if `errors` is true;
 * otherwise they may, and may not.
 */
export function roundRows(
  { gpu }: Pick<ChunkContext, "gpu">,
  linalg: LinalgContext,
  { factor, task, onGpu, errors, ...rows }: PlacedRows & PlacedFactor,
): void {
  const { name } = task, layerRows = (task.transform ?? task.source).rows;
  const { storage = "f32", isFirst = false } = task.onGpu ?? {};
  const layer = { name, factor, storage, isFirst };
  const check = onGpu === null ? null : ldlqCheck(layer, { ...rows, errors }, layerRows);
  const request = {
    op: "ldlq",
    weights: placeOf(rows.weights),
    codes: placeOf(rows.codes),
    scales: placeOf(rows.scales),
    errors,
    firstRow: rows.firstRow,
    grid: rows.grid,
    ...(rows.levels === undefined ? {} : { levels: requestedLevels(rows.levels) }),
  } as const;
  const isDone = gpu !== null && onGpu !== null &&
    gpu.run({ ...request, name: onGpu }, check ?? undefined);
  // Results are copied when all of them are there: if the device failed, the weights are what they were.
  if (!isDone) gptqRows(linalg, factor, { ...rows, errors });
}

function requestedLevels({ groupCols, choices, nearest, search }: RowLevels): RequestedLevels {
  const tables = { groupCols, choices: placeOf(choices), nearest: placeOf(nearest) };
  if (!search) return { ...tables, search: null };
  return { ...tables, search: { first: placeOf(search.first) } };
}
