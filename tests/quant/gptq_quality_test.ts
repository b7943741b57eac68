/** What GPTQ must gain on layers with outliers, on inputs that calibration has not seen. */

import assert from "node:assert/strict";
import type { Grid } from "../../src/backend/backend.ts";
import { referenceKernels } from "../../src/backend/reference/reference_kernels.ts";
import { withScratch } from "../../src/linalg/context.ts";
import { diagonalOf, type Hessian } from "../../src/linalg/hessian.ts";
import { hessianFromActivations, hessianFromChannels } from "../../src/linalg/hessian_sources.ts";
import { matrix, transpose } from "../../src/linalg/matrix.ts";
import { rotateHessian } from "../../src/linalg/rotate_hessian.ts";
import { columnImportance } from "../../src/quant/column_importance.ts";
import { searchCompensatedScales } from "../../src/quant/compensated_scale.ts";
import { gptqRows, prepareGptq } from "../../src/quant/gptq.ts";
import { put, wasmContext } from "../linalg/contexts.ts";
import { type SyntheticLayer, syntheticLayer } from "../support/synthetic_layer.ts";

const ROWS = 512, COLS = 512, GROUP = 256;
const LAYERS = [1, 2].map((seed) => syntheticLayer({ rows: ROWS, cols: COLS, seed }));
const CALIBRATION = 1, HELD_OUT = 2;
const { memory, kernels } = wasmContext;

interface Mode {
  readonly groupRows: number;
  readonly groupCols: number;
  readonly rotated: boolean;
}

const ROW: Mode = { groupRows: 1, groupCols: COLS, rotated: false };
const CONVROT: Mode = { ...ROW, rotated: true };

function inStoredSpace(x: Float32Array, mode: Mode): Float32Array {
  const stored = x.slice();
  if (mode.rotated) referenceKernels.rotate(stored, GROUP);
  return stored;
}

/** Relative error of the outputs that weights changed by `errors` (in the stored space) give. */
function outputErrorOf(layer: SyntheticLayer, mode: Mode, errors: Float32Array): number {
  const count = 128, x = put(memory, inStoredSpace(layer.inputs(count, HELD_OUT), mode));
  const w = put(memory, inStoredSpace(layer.weight, mode)), out = memory.f32(count * ROWS);
  const energyOf = (by: Float32Array) => {
    const product = matrix(out, count, ROWS), inputs = matrix(x, count, COLS);
    kernels.gemmF32(product, inputs, transpose(matrix(by, ROWS, COLS)), "set");
    return out.reduce((sum, y) => sum + y * y, 0);
  };
  const signal = energyOf(w);
  return Math.sqrt(energyOf(put(memory, errors)) / signal);
}

function gridOf(mode: Mode): Grid {
  return { rows: ROWS, cols: COLS, groupRows: mode.groupRows, groupCols: mode.groupCols };
}

function absmaxScales(w: Float32Array, grid: Grid): Float32Array {
  const scales = new Float32Array((ROWS / grid.groupRows) * (COLS / grid.groupCols));
  referenceKernels.absmax(scales, w, grid);
  referenceKernels.scaleFromAbsmax(scales, scales);
  return scales;
}

function nearestError(layer: SyntheticLayer, mode: Mode): number {
  const w = inStoredSpace(layer.weight, mode), grid = gridOf(mode), scales = absmaxScales(w, grid);
  const codes = new Int8Array(w.length), dequantized = new Float32Array(w.length);
  referenceKernels.quantize(codes, w, scales, grid);
  referenceKernels.dequantize(dequantized, codes, scales, grid);
  return outputErrorOf(layer, mode, w.map((x, i) => x - dequantized[i]!));
}

function gptqError(layer: SyntheticLayer, mode: Mode, hessian: Hessian): number {
  const w = inStoredSpace(layer.weight, mode), grid = gridOf(mode);
  const importance = grid.groupRows > 1 ? columnImportance(w, grid, diagonalOf(hessian)) : null;
  const spare = hessian.blockSize < GROUP ? memory.f64(COLS * GROUP) : null;
  const stored = mode.rotated ? rotateHessian(wasmContext, hessian, GROUP, spare) : hessian;
  const factor = prepareGptq(wasmContext, stored, { actOrder: true, damping: 0.1, importance });
  const scales = absmaxScales(w, grid);
  searchCompensatedScales(factor, scales, w, grid);
  const errors = put(memory, w), codes = memory.i8(w.length);
  gptqRows(wasmContext, factor, {
    weights: errors,
    codes,
    firstRow: 0,
    grid,
    scales: put(memory, scales),
  });
  return outputErrorOf(layer, mode, errors);
}

/** Geometric mean over the layers of GPTQ's error relative to that of rounding to nearest. */
function ratioOf(mode: Mode, hessianOf: (layer: SyntheticLayer) => Hessian): number {
  const logs = LAYERS.map((layer) =>
    withScratch(wasmContext, () => {
      return Math.log(gptqError(layer, mode, hessianOf(layer)) / nearestError(layer, mode));
    })
  );
  return Math.exp(logs.reduce((sum, x) => sum + x, 0) / logs.length);
}

function fromInputs(layer: SyntheticLayer, count: number): Hessian {
  const x = put(memory, layer.inputs(count, CALIBRATION));
  return hessianFromActivations(wasmContext, matrix(x, count, COLS), memory.f64(COLS * COLS));
}

function fromMaxima(layer: SyntheticLayer): Hessian {
  const x = layer.inputs(512, CALIBRATION), maxima = new Float32Array(COLS);
  x.forEach((value, i) => maxima[i % COLS] = Math.max(maxima[i % COLS]!, Math.abs(value)));
  return hessianFromChannels(maxima, memory.f64(COLS));
}

const CASES: readonly [string, number, Mode, (layer: SyntheticLayer) => Hessian][] = [
  ["on a row grid", 0.66, ROW, (layer) => fromInputs(layer, 1024)],
  ["on blocks", 0.62, { ...ROW, groupRows: 128, groupCols: 128 }, (l) => fromInputs(l, 1024)],
  ["with one scale", 0.45, { ...ROW, groupRows: ROWS }, (layer) => fromInputs(layer, 1024)],
  ["after rotation", 0.47, CONVROT, (layer) => fromInputs(layer, 1024)],
  ["after rotation with 64 inputs", 0.6, CONVROT, (layer) => fromInputs(layer, 64)],
  ["after rotation with channel maxima", 0.68, CONVROT, fromMaxima],
  [
    "after rotation with inputs of another layer",
    1.1,
    CONVROT,
    () => fromInputs(syntheticLayer({ rows: 1, cols: COLS, seed: 99 }), 1024),
  ],
];

for (const [name, most, mode, hessianOf] of CASES) {
  Deno.test(`GPTQ ${name} has at most ${most} of the output error of rounding to nearest`, () => {
    const ratio = ratioOf(mode, hessianOf);
    assert(ratio <= most, `${ratio}, at most ${most}`);
  });
}
