/** Cost of a task, in elementary operations, from its shape alone: the same on every machine. */

import { inputBytesOf } from "../../run/task_kinds.ts";
import type { QuantizeTask, Task } from "../../run/tasks.ts";

/** Per element: decode, rotate, absmax, quantize, error sums. */
const ROUND_OPERATIONS = 22;

/** Per element: the scale search, whose sums take eight values at a time. */
const SEARCH_OPERATIONS = 20;

/** Per byte that is only moved. */
const COPY_OPERATIONS = 2;

/** Returns the estimated cost of `task`. */
export function costOf(task: Task): number {
  if (task.kind !== "quantize") return COPY_OPERATIONS * inputBytesOf(task);
  const { rows, cols } = task.source;
  const perElement = ROUND_OPERATIONS + (task.scaleSearch ? SEARCH_OPERATIONS : 0);
  return rows * cols * perElement + compensationCost(task) + learningCost(task);
}

/** N K² / 2 for what is fed back, K³ / 6 for the factor, T K² / 2 for the second moments. */
function compensationCost({ compensation, source: { rows, cols } }: QuantizeTask): number {
  if (compensation === null) return 0;
  const squared = cols * cols;
  return rows * squared / 2 + squared * cols / 6 + compensation.rows * squared / 2;
}

/** Every step looks at each weight once per direction of a tile. */
function learningCost({ learned, source: { rows, cols } }: QuantizeTask): number {
  return learned === undefined ? 0 : learned.options.iterations * rows * cols * 4;
}
