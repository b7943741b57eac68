/** Which layers may share what is made of their inputs: those with the same key, if their rows are the same. */

import type { QuantizeTask, Task } from "../tasks.ts";
import { feedsIntegers, unitColsOf } from "./compensated_task.ts";
import { rowSpaceBlockCols } from "./row_space_choice.ts";

/**
 * Returns everything that decides what is made of the inputs of a layer, but for their rows, of which a sample
 * stands there; null if nothing is made that another layer could use.
 */
export function inputsKey(task: Task): string | null {
  if (task.kind !== "quantize" || !isFittedToRows(task)) return null;
  const { data, heldOut, ...how } = task.compensation!;
  if (how.sample === null || how.directions !== null || data.kind !== "file") return null;
  // Columns are in an order that depends on the weights.
  if (how.actOrder && how.weightedScales && task.groupRows > 1) return null;
  const { cols } = task.source, { convrotGroupSize, onGpu } = task;
  return JSON.stringify([
    ...[cols, convrotGroupSize, unitColsOf(task), rowSpaceBlockCols(task), feedsIntegers(task)],
    ...[how, data.dtype, data.factors !== undefined, onGpu?.sumsMoments ?? false],
    heldOut === null ? null : [heldOut.firstRow, heldOut.rowStep, heldOut.rows, heldOut.data?.kind],
  ]);
}

function isFittedToRows({ compensation, transform, learned }: QuantizeTask): boolean {
  return compensation !== null && transform === undefined && learned === undefined;
}

/** Returns `items` in their order, but those whose tasks have the same key behind the first of them. */
export function besideTheirLike<Item extends { readonly task: Task; readonly rank: number }>(
  items: readonly Item[],
): Item[] {
  const groups = new Map<string, Item[]>();
  items.forEach((item, index) => {
    const own = inputsKey(item.task), key = own === null ? String(index) : `${item.rank} ${own}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  });
  return [...groups.values()].flat();
}

/** Returns the index of the last one of each run of tasks that have the same key, of those in `first .. end`. */
export function lastOfTheirLike(
  tasks: { at(index: number): Task | undefined },
  first: number,
  end: number,
): number[] {
  const keys = Array.from({ length: end - first }, (_, i) => inputsKey(tasks.at(first + i)!));
  return keys.flatMap((key, i) => key !== null && key === keys[i + 1] ? [] : [first + i]);
}
