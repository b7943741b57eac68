/** Holds rows whose errors are compensated to the weight error of rounding to nearest (QuIP in original space). */

import type { CountedMemory } from "../../core/counted_memory.ts";
import { type Grid, groupCount } from "../../backend/backend.ts";
import type { Rect } from "../chunk_grid.ts";
import type { ChunkContext, Scratch } from "./chunk_context.ts";

function roomForHeld(
  scratch: Pick<Scratch, "f32" | "i8">,
  { rows, cols }: Pick<Rect, "rows" | "cols">,
  grid: Grid,
) {
  return { plain: scratch.f32(groupCount(grid)), codes: scratch.i8(rows * cols) };
}

/**
 * Gives rows the scale of their largest weight if the one at hand would add to the error of the outputs,
 * as far as channels alone show. Returns the squared weight error that no row may exceed: that of
 * rounding it to nearest with the scale of its largest weight.
 */
export function holdScales(
  { kernels, scratch }: ChunkContext,
  energies: Float64Array,
  band: { x: Float32Array; xhat: Float32Array; scales: Float32Array; grid: Grid },
): Float64Array {
  const { x, xhat, scales, grid } = band;
  const mark = scratch.mark();
  const { plain, codes } = roomForHeld(scratch, grid, grid);
  const errorsWith = (scales: Float32Array): Float32Array => {
    kernels.quantize(codes, x, scales, grid);
    kernels.dequantize(xhat, codes, scales, grid);
    for (let i = 0; i < x.length; i++) xhat[i] = x[i]! - xhat[i]!;
    return xhat;
  };
  const asSearched = rowEnergies(errorsWith(scales), grid.cols, energies);
  kernels.absmax(plain, x, grid);
  kernels.scaleFromAbsmax(plain, plain);
  const nearest = errorsWith(plain);
  const asPlain = rowEnergies(nearest, grid.cols, energies);
  const limits = rowEnergies(nearest, grid.cols);
  for (let row = 0; row < limits.length; row++) {
    if (asSearched[row]! > asPlain[row]!) scales[row] = plain[row]!;
  }
  scratch.release(mark);
  return limits;
}

/** Sums of squares of the rows of `x`, each column weighed. */
export function rowEnergies(x: Float32Array, cols: number, weights?: Float64Array): Float64Array {
  const energies = new Float64Array(x.length / cols);
  for (let row = 0; row < energies.length; row++) {
    let sum = 0;
    for (let k = 0; k < cols; k++) {
      const value = x[row * cols + k]!;
      sum += value * value * (weights === undefined ? 1 : weights[k]!);
    }
    energies[row] = sum;
  }
  return energies;
}

/** Counts what {@link holdScales} takes. */
export function planHoldScales(memory: CountedMemory, rect: Rect, grid: Grid): void {
  memory.within(() => roomForHeld(memory, rect, grid));
}
