/** ldlqLevels: see `LinalgKernels.ldlqLevels`, `asm/linalg/ldlq_levels.ts`. */

import { checkLdlqLevels } from "../../../linalg/linalg_checks.ts";
import type { LdlqLevels } from "../../../linalg/linalg_kernels.ts";
import { LEVEL_TABLE } from "../../backend.ts";
import { levelIndex, levelUnits } from "../level_index.ts";

const f32 = Math.fround;

/** Last column to first: the nearest level of what is there plus what is fed back, feed the error back. */
export function ldlqLevels(args: LdlqLevels): void {
  checkLdlqLevels(args);
  const { codes, weights, feedback, panel, scales, columnGroups, levels } = args;
  const { choices, across, columnSets, nearest } = levels;
  for (let r = 0; r < weights.rows; r++) {
    const row = weights.data.subarray(r * weights.rowStride);
    const fed = feedback.data.subarray(r * feedback.rowStride);
    const scaleRow = Math.floor((args.firstRow + r) / args.groupRows) * args.scaleCols;
    for (let j = weights.cols - 1; j >= 0; j--) {
      const scale = scales[scaleRow + columnGroups[j]!]!;
      const set = choices[(args.firstRow + r) * across + columnSets[j]!]!;
      const at = levelIndex(levelUnits(f32(row[j]! + fed[j]!), scale));
      const level = nearest[set * LEVEL_TABLE + at]!;
      const error = f32(row[j]! - f32(level * scale));
      codes[r * args.codesRowStride + j] = level;
      row[j] = error;
      for (let i = 0; i < j; i++) {
        fed[i] = fed[i]! + f32(error * panel.data[j * panel.rowStride + i]!);
      }
    }
  }
}
