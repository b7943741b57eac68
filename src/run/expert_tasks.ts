/** One task per expert, for banks whose experts have calibration data of their own. */

import { matrixRows } from "../formats/matrix_rows.ts";
import type { Compensation } from "../calibration/compensation.ts";
import type { QuantizeTask } from "./tasks.ts";

/**
 * Returns the tasks of the experts of a bank, or that of the bank itself if its rows cannot be read
 * or written apart.
 *
 * @param bank the task of the whole bank, compensated by what is known of all of it.
 * @param experts how many it has.
 * @param compensationOf what is known of the inputs of one; null: it is rounded to nearest.
 */
export function expertTasks(
  bank: QuantizeTask,
  experts: number,
  compensationOf: (expert: number) => Compensation | null,
): QuantizeTask[] {
  if (bank.levels !== undefined) return [bank];
  const { source, groupRows } = bank, rows = source.rows / experts, { cols } = source;
  const found = Array.from({ length: experts }, (_, index) => compensationOf(index));
  // Rounding to nearest searches its scales as it does for a layer that data does not know.
  const search = found.find((one) => one !== null)?.fallbackScaleSearch ?? bank.scaleSearch;
  const tasks = found.flatMap((compensation, index): QuantizeTask[] => {
    const own = matrixRows(source, index * rows, rows);
    if (own === null) return [];
    const { learned, ...plain } = bank;
    return [{
      ...plain,
      source: own,
      groupRows: Math.min(groupRows, rows),
      compensation,
      ...(learned === undefined || compensation === null ? {} : { learned }),
      scaleSearch: compensation === null ? search : bank.scaleSearch,
      codesOffsetBytes: bank.codesOffsetBytes + index * rows * cols,
      scalesOffsetBytes: bank.scalesOffsetBytes + 4 * index * rows,
      expert: { index, bank: source },
    }];
  });
  return tasks.length === experts ? tasks : [bank];
}
