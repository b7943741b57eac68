/** Rounding to floats of few bits (`quant/float_grid.ts`) of values that lie on the device, recorded into a batch. */

import { FLOAT_GROUP_COLS, type FloatRounding } from "../backend.ts";
import type { Batch, Slot } from "./batch.ts";
import * as shaders from "./shaders.ts";

/** Words that one workgroup makes. */
const WORKGROUP = 64;

/** The kinds in the order of their numbers in the shader. */
const KINDS: readonly FloatRounding["kind"][] = ["e4m3", "e4m3Groups", "e2m1Groups"];

/** Records `roundFloats`. `codes` and `groupScales` u8, four in a word; `x` f32, which become the values of the codes. */
export function recordRoundFloats(
  batch: Batch,
  { codes, groupScales }: { readonly codes: Slot; readonly groupScales: Slot },
  { x, count, rounding: { kind, scale, search } }: {
    readonly x: Slot;
    readonly count: number;
    readonly rounding: FloatRounding;
  },
): void {
  const params = { count, kind: KINDS.indexOf(kind), scale, search: Number(search), zero: 0 };
  const bytes = count / (FLOAT_GROUP_COLS[kind] ?? 1);
  const workgroups = Math.ceil(bytes / (4 * WORKGROUP));
  batch.dispatch(shaders.roundFloats, [codes, groupScales, x], params, workgroups);
}
