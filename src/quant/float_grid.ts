/**
 * Weights as floats of 8 or 4 bits with scales: `float8_e4m3fn` (one scale), `mxfp8` (a power of 2 per 32 columns)
 * and `nvfp4` (E2M1 with an E4M3 scale per 16 columns, and one for all). Rounded to nearest; the scale of a group
 * is that of least squared error among some (`asm/round_floats.ts`). Compensating errors gains little on them. Pure.
 */

/** Which of them, as plans and tasks have it: plain JSON. */
export interface FloatScheme {
  /** One scale; a power of 2 per 32 columns; an E4M3 scale per 16 columns, and one for all. */
  readonly kind: "e4m3" | "e4m3Groups" | "e2m1Groups";
}

/** The largest numbers of E4M3 and of E2M1. */
const E4M3_MAX = 448, E2M1_MAX = 6;

/** Returns the scale of a whole weight of this largest magnitude. */
export function wholeScale(kind: FloatScheme["kind"], absmax: number): number {
  if (kind === "e4m3Groups") return 1;
  const most = kind === "e4m3" ? E4M3_MAX : E4M3_MAX * E2M1_MAX;
  return Math.fround(Math.max(absmax / most, 2 ** -126));
}
