/** The candidates of `searchScale`, the same on every backend: `asm/search_scale.ts` argues for them. */

const f32 = Math.fround;

/** Candidates below the scale on entry. */
export const SEARCH_CANDIDATES = 8;
/** A step of the scale in the integers that errors are computed in. */
export const SEARCH_STEP = 65536;
/** Scales on entry up to this one stay as they are: their reciprocal could overflow. */
export const SEARCH_SCALE_MIN = 2 ** -110;
/** Per value: what sums of squared errors may be wrong by beside 1/256 of them, in units of 2^-24 step². */
const ALLOWANCE = 688;

/** Facts beside its values on which the search of a group depends. All numbers are f32. */
export interface SearchRange {
  /** Distance of neighbouring candidates in `1 / factor`. */
  readonly delta: number;
  /** Values of more than this many {@link SEARCH_STEP}ths of a step may clip at the last candidate. */
  readonly top: number;
  /** Possible error of the sums of the group beside 1/256 of them. */
  readonly allowance: number;
}

/** Returns the range for groups of `n` values. */
export function searchRange(n: number): SearchRange {
  const count = f32(n);
  const least = Math.min(Math.max(f32(count * f32(0.022 / 1536)), f32(0.011)), f32(0.022));
  const width = Math.min(Math.max(f32(count * f32(1.25 / 12 / 16129)), least), 0.5);
  return {
    delta: f32(f32(width / f32(1 - width)) * 0.125),
    top: f32(f32(127.49 * SEARCH_STEP) * f32(1 - width)),
    allowance: f32(count * ALLOWANCE),
  };
}
