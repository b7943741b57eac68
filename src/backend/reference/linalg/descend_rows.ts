/** descendRows: see `LinalgKernels.descendRows`, `asm/linalg/descend_rows.ts`. */

import { checkDescendRows } from "../../../linalg/linalg_checks.ts";
import type { DescendRows } from "../../../linalg/linalg_kernels.ts";

const f32 = Math.fround;

/** Row by row, column by column: move the code to the other side of its weight if that pays. */
export function descendRows(args: DescendRows): void {
  checkDescendRows(args);
  const { codes, errors, gradient, sums, factors, panel, offset, totals } = args;
  for (let r = 0; r < errors.rows; r++) {
    const scaleRow = Math.floor((args.firstRow + r) / args.groupRows) * args.scaleCols;
    for (let j = 0; j < errors.cols; j++) {
      const at = r * errors.rowStride + j, e = errors.data[at]!;
      if (!(e > 0 || e < 0)) continue;
      const s = args.scales[scaleRow + args.columnGroups[j]!]!;
      const d = e > 0 ? -s : s, t = f32(d * args.weights[r]!);
      const g = gradient.data[r * gradient.rowStride + offset + j]!;
      const h = panel.data[j * panel.rowStride + offset + j]!;
      const gain = f32(f32(d * f32(g + g)) + f32(d * f32(t * h)));
      const cost = f32(d * f32(f32(e + e) + d));
      if (!(f32(gain + f32(f32(args.penalty) * cost)) < 0)) continue;
      const code = codes[r * args.codesRowStride + j]! + (e > 0 ? -1 : 1);
      if (code < -127 || code > 127) continue;
      codes[r * args.codesRowStride + j] = code;
      errors.data[at] = e + d;
      addScaled(gradient.data, r * gradient.rowStride, panel.data, j * panel.rowStride, {
        factor: t,
        count: gradient.cols,
      });
      addScaled(sums.data, j * sums.rowStride, factors.data, r * factors.rowStride, {
        factor: d,
        count: sums.cols,
      });
      totals[0] = totals[0]! + 1;
      totals[1] = totals[1]! + gain;
      totals[2] = totals[2]! + cost;
    }
  }
}

function addScaled(
  y: Float32Array,
  yAt: number,
  x: Float32Array,
  xAt: number,
  { factor, count }: { factor: number; count: number },
): void {
  for (let i = 0; i < count; i++) y[yAt + i] = y[yAt + i]! + f32(factor * x[xAt + i]!);
}
