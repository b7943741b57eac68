/** Splits a plan into parts of about the same cost. Pure: the same split on every machine. */

import { layerPrefix } from "../../core/layer_name.ts";
import { UsageError } from "../../core/errors.ts";
import type { Task } from "../../run/tasks.ts";
import { layoutOutput } from "../../safetensors/shard_layout.ts";
import type { Plan } from "../../plan/plan.ts";
import { costOf } from "./cost.ts";
import type { Part } from "./part.ts";

/** Metadata of the file of a part: whoever opens one learns that it is not the model. */
const PART_KEY = "quantsmith_part";

/**
 * Returns for every layer the number of its part, from 1. The costliest layers are dealt out first, each to
 * the part with the least so far.
 *
 * @param costs by layer, in the order of the plan.
 * @throws UsageError if there are fewer layers than parts.
 */
export function assignLayers(
  costs: ReadonlyMap<string, number>,
  count: number,
): ReadonlyMap<string, number> {
  if (count > costs.size) {
    throw new UsageError(
      `Cannot split the model into ${count} parts: it has ${costs.size} layers, so N is at most ` +
        `${costs.size}`,
    );
  }
  // Array.prototype.sort is stable: equal costs stay in the order of the plan.
  const byCost = [...costs].sort(([, a], [, b]) => b - a);
  const loads = new Array<number>(count).fill(0);
  const parts = new Map<string, number>();
  for (const [layer, cost] of byCost) {
    let least = 0;
    for (let part = 1; part < count; part++) if (loads[part]! < loads[least]!) least = part;
    // One at least, so that layers without values spread too, and no part stays empty.
    loads[least]! += Math.max(1, cost);
    parts.set(layer, least + 1);
  }
  return parts;
}

/** Returns the estimated cost of every layer of a plan, in its order. */
export function layerCosts(
  plan: Pick<Plan, "outputs">,
  tasks: readonly Task[],
): ReadonlyMap<string, number> {
  const costs = new Map(plan.outputs.map(({ name }) => [layerPrefix(name), 0]));
  for (const task of tasks) {
    const layer = layerPrefix(task.name);
    costs.set(layer, (costs.get(layer) ?? 0) + costOf(task));
  }
  return costs;
}

/**
 * Returns the plan of one part: its layers with everything that belongs to them, in a file of their own.
 *
 * @param tasks of the whole plan.
 */
export function planOfPart(plan: Plan, tasks: readonly Task[], part: Part): Plan {
  const parts = assignLayers(layerCosts(plan, tasks), part.count);
  const isOwn = (name: string) => parts.get(layerPrefix(name)) === part.index;
  const own = plan.outputs.filter(({ name }) => isOwn(name));
  const layout = layoutOutput(own, { [PART_KEY]: `${part.index}/${part.count}` }, {
    shardBytes: null,
  });
  const contents = new Map(own.map(({ name, content }) => [name, content]));
  const outputs = layout.entries.map((entry) => ({ ...entry, content: contents.get(entry.name)! }));
  // Removed tensors are written by no part: part 1 reports it.
  const tensors = plan.tensors.filter(({ source, action }) =>
    action === "remove" ? part.index === 1 : isOwn(source.name)
  );
  const counted = (action: string) => tensors.filter((tensor) => tensor.action === action).length;
  return {
    ...plan,
    tensors,
    outputs,
    parts: layout.parts,
    totals: {
      quantize: counted("quantize"),
      keep: counted("keep"),
      cast: counted("cast"),
      remove: counted("remove"),
      inputBytes: tensors.reduce((sum, { source }) => sum + source.byteLength, 0),
      outputBytes: layout.totalBytes,
    },
  };
}
