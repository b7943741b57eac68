/** ldlqBlock: see `LinalgKernels.ldlqBlock`, `asm/linalg/ldlq_block.ts`. */

import { checkLdlqBlock } from "../../../linalg/linalg_checks.ts";
import type { LdlqBlock } from "../../../linalg/linalg_kernels.ts";
import { roundHalfEven } from "../round_half_even.ts";

const f32 = Math.fround;

/** Last column to first: round what is there plus what is fed back, feed the error back. */
export function ldlqBlock(args: LdlqBlock): void {
  checkLdlqBlock(args);
  const { codes, weights, feedback, panel, scales, columnGroups } = args;
  for (let r = 0; r < weights.rows; r++) {
    const row = weights.data.subarray(r * weights.rowStride);
    const fed = feedback.data.subarray(r * feedback.rowStride);
    const scaleRow = Math.floor((args.firstRow + r) / args.groupRows) * args.scaleCols;
    for (let j = weights.cols - 1; j >= 0; j--) {
      const scale = scales[scaleRow + columnGroups[j]!]!;
      const code = codeOf(f32(f32(row[j]! + fed[j]!) / scale));
      const error = f32(row[j]! - f32(code * scale));
      codes[r * args.codesRowStride + j] = code;
      row[j] = error;
      for (let i = 0; i < j; i++) {
        fed[i] = fed[i]! + f32(error * panel.data[j * panel.rowStride + i]!);
      }
    }
  }
}

function codeOf(t: number): number {
  return Number.isNaN(t) ? 0 : roundHalfEven(Math.max(-127, Math.min(127, t)));
}
