/** How the errors of a layer are compensated: what is known of its inputs, and what the options say. */

import { DAMPING_DEFAULT } from "../linalg/damping.ts";
import type { LayerStatistic, LoraDirections } from "./calibration.ts";
import type { ConvertOptions } from "../plan/options.ts";
import type { Compensation } from "../run/tasks.ts";

/**
 * Returns the compensation of a layer by `statistic`.
 *
 * @param directions of a LoRA that weigh more than the inputs tell; null: none.
 */
export function compensationBy(
  statistic: LayerStatistic,
  { actOrder, turbo, scaleSearch, segments }: Pick<
    ConvertOptions,
    "actOrder" | "turbo" | "scaleSearch" | "segments"
  >,
  directions: LoraDirections | null = null,
): Compensation {
  return {
    ...statistic,
    directions,
    actOrder,
    turbo,
    damping: DAMPING_DEFAULT,
    pairs: 1,
    weightedScales: scaleSearch === null,
    guarded: false,
    segments,
    fallbackScaleSearch: (scaleSearch ?? "mse") === "mse",
  };
}
