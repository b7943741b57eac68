/**
 * Which compensated layers are rounded in the space of their calibration rows (`quant/row_space.ts`): those
 * that have few rows beside their columns, by cost. Depends on the task alone, so that every run decides
 * alike, whatever its workers.
 */

import { blockColsOf } from "../../quant/row_space_blocks.ts";
import type { QuantizeTask } from "../tasks.ts";

/** Cost of a multiply-add beside one in f32: in f64, and if errors are fed back in 16-bit integers. */
const DOUBLE_COST = 2, INTEGER_COST = 0.5;

/**
 * Returns the columns of a block for a layer that is rounded in the space of its rows; null for one that is
 * rounded by its K x K Hessian: if that is cheaper, or has to be there for something else.
 */
export function rowSpaceBlockCols(task: QuantizeTask): number | null {
  const { compensation, convrotGroupSize: group } = task;
  const isPlain = task.transform === undefined && task.learned === undefined &&
    task.onGpu === undefined;
  if (compensation === null || group === null || !isPlain) return null;
  const { statistic, directions, guarded, pairs, rows: inputs } = compensation;
  if (statistic !== "activations" || directions !== null || guarded || pairs !== 1) return null;
  const { rows, cols } = task.source;
  const width = blockColsOf(cols, group);
  if (width === null) return null;
  const made = (cols / width) *
    (inputs ** 3 / 6 + 2.5 * width * inputs ** 2 + 2 * width ** 2 * inputs);
  const cost = 2 * rows * cols * inputs + rows * cols * width / 2 + DOUBLE_COST * made;
  const fedBack = (compensation.turbo ? INTEGER_COST : 1) * rows * cols ** 2 / 2;
  const dense = fedBack + cols ** 3 / 6 + DOUBLE_COST * inputs * cols ** 2 / 2;
  return cost < dense ? width : null;
}
