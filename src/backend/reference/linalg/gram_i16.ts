/** gramI16: see `LinalgKernels.gramI16`, `asm/linalg/gram_i16.ts`. */

import { checkGramI16 } from "../../../linalg/linalg_checks.ts";
import { GRAM_RUN, type GramI16, type ShortMatrix } from "../../../linalg/linalg_kernels.ts";
import type { MatrixF64 } from "../../../linalg/matrix.ts";

const f32 = Math.fround;
const STRIP = 8;

export function gramI16(h: MatrixF64, x: ShortMatrix, args: GramI16): void {
  checkGramI16(h, x, args);
  const { first, end, factor, add } = args, { data, rowStride } = h;
  for (let i = first; i < end; i++) {
    for (let j = 0; j <= i; j++) {
      const value = f32(momentOf(x, h.cols, args.terms, i, j)) * factor;
      const at = i * rowStride + j, mirrored = j * rowStride + i;
      data[at] = add ? data[at]! + value : value;
      if (i !== j) data[mirrored] = add ? data[mirrored]! + value : value;
    }
  }
}

/** The moment of channels i and j, summed up in f32 by runs. */
function momentOf(
  { pairs, scales }: ShortMatrix,
  cols: number,
  terms: number,
  i: number,
  j: number,
): number {
  let moment = 0;
  for (let from = 0; from < terms; from += GRAM_RUN) {
    const count = Math.ceil(Math.min(GRAM_RUN, terms - from) / 2), run = from * cols / 2;
    const left = run + (i - i % STRIP) * count + i % STRIP;
    const right = run + (j - j % STRIP) * count + j % STRIP;
    let sum = 0;
    for (let p = 0; p < count; p++) {
      const a = pairs[left + p * STRIP]!, b = pairs[right + p * STRIP]!;
      sum += lowOf(a) * lowOf(b) + highOf(a) * highOf(b);
    }
    const own = from / GRAM_RUN * cols;
    const value = f32(f32(sum) * f32(scales[own + j]! * scales[own + i]!));
    moment = from > 0 ? f32(moment + value) : value;
  }
  return moment;
}

const lowOf = (pair: number): number => (pair << 16) >> 16;
const highOf = (pair: number): number => pair >> 16;
