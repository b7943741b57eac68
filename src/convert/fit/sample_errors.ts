/**
 * The error that each format would leave in a layer, measured on a sample of its rows rounded to nearest with
 * searched scales: what `--fit` chooses by.
 *
 * With inputs: the squared relative error of the layer's outputs with int8 inputs, on rows that nothing is
 * fitted to. It has two parts. What rounding of the inputs costs (the floor) is the same in every format; what
 * rounding of the weights adds is multiplied by {@link COMPENSATED} if errors are going to be compensated, which
 * lowers it by about as much in every format. Without inputs: the squared relative error of the weights.
 *
 * Cost of a layer: {@link SAMPLED_ROWS} rows are read, rounded once per format, and multiplied with at most
 * {@link SAMPLED_INPUTS} inputs.
 */

import { WasmKernels } from "../../backend/cpu/wasm_kernels.ts";
import { compileLinalg } from "../../backend/cpu/linalg_module.ts";
import { compileKernels } from "../../backend/cpu/wasm_module.ts";
import { WasmLinalg } from "../../backend/cpu/wasm_linalg.ts";
import {
  Arena,
  createSharedMemory,
  LINALG_WORKSPACE_BYTES,
  STATICS_BYTES,
} from "../../backend/cpu/arena.ts";
import { bf16ToF32, f32ToBf16, f8e4m3ToF32 } from "../../core/dtype.ts";
import type { LayerInputs } from "../../calibration/layer_inputs.ts";
import type { MatrixSource } from "../../formats/matrix_source.ts";
import { soloContext } from "../../linalg/context.ts";
import { matrix, type MatrixF32 } from "../../linalg/matrix.ts";
import { addValue, emptyHistogram, fitCodebook, type RoundedSample } from "../../quant/codebook.ts";
import { type LevelScheme, levelTables } from "../../quant/level_grid.ts";
import type { Scheme } from "../../quant/scheme.ts";
import type { ChunkContext } from "../../run/chunks/chunk_context.ts";
import { roundToLevels } from "../../run/chunks/level_scales.ts";
import { loadInputRow } from "../../run/chunks/load_inputs.ts";
import { decodeRect, rawBytes, readRect } from "../../run/chunks/load_rect.ts";
import { SLOT_LENGTH } from "../../run/layer_statistics.ts";
import type { InputFiles } from "../../safetensors/input_files.ts";

/**
 * Rows of a weight that are looked at, in bands of {@link BAND_ROWS} spread evenly. Neighbouring rows are those of one
 * head of attention, and heads differ: bands of 16 hold too few of them to say which layers are worse.
 */
const SAMPLED_ROWS = 128, BAND_ROWS = 4;
/** Elements of a weight that are looked at, at most; one row at least. */
const SAMPLED_ELEMENTS = 2 ** 20;
/** Inputs that outputs are computed for, at most. */
const SAMPLED_INPUTS = 64;

/**
 * The share of the squared output error of rounding to nearest that compensation leaves. Measured on a real text
 * encoder (`deno task bench --only real`, W8A16 with 1,024 rows beside none): 0.29 in INT8, 0.28 in w6a8, 0.31 in
 * w4a8.
 */
const COMPENSATED = 0.3;

/** Arrays of the sample that are alive at once: rows as read, exact, rotated and rounded, and what reading takes. */
const ARRAYS = 16;
const SLACK_BYTES = 1 << 24;

/** A layer, and how the formats would store it. */
export interface SampledLayer {
  readonly matrix: MatrixSource;
  /** The recipes to be compared; `bf16`: rounded to that. */
  readonly schemes: readonly (Scheme | "bf16")[];
  /** Inputs that nothing is fitted to; null: none are known. */
  readonly inputs: LayerInputs | null;
  /** Whether errors are going to be compensated. */
  readonly isCompensated: boolean;
}

/** Measures layers of one model. */
export class SampleErrors {
  readonly #context: ChunkContext;
  readonly #arena: Arena;

  /**
   * @param files the files that matrices and inputs lie in, by number.
   * @param mostCols the most columns that a layer has.
   */
  constructor(files: InputFiles, mostCols: number) {
    const rows = rowsOf(Number.MAX_SAFE_INTEGER, mostCols);
    const bytes = 4 * ARRAYS * mostCols * (rows + SAMPLED_INPUTS) + SLACK_BYTES;
    const size = bytes + LINALG_WORKSPACE_BYTES;
    const memory = createSharedMemory(STATICS_BYTES + size);
    this.#arena = new Arena(memory, STATICS_BYTES, size);
    const kernels = new WasmKernels(compileKernels(), memory);
    const linalg = new WasmLinalg(compileLinalg(), this.#arena);
    this.#context = {
      kernels,
      linalg: soloContext(linalg, this.#arena),
      scratch: this.#arena,
      gpu: null,
      read: (file, view, position) => files.read(file, view, position),
      write: () => {},
      note: () => {},
      slot: new Float64Array(SLOT_LENGTH),
    };
  }

  /** Returns the squared relative error of each scheme. */
  of(layer: SampledLayer): number[] {
    const mark = this.#arena.mark();
    try {
      return this.#measured(layer);
    } finally {
      this.#arena.release(mark);
    }
  }

  /**
   * Returns the table of levels that loses least in rows rounded to nearest: that of `scheme`, or one fitted to them.
   *
   * @throws what reading throws.
   */
  codebookOf(source: MatrixSource, { levels, convrotGroupSize }: Scheme): readonly number[] {
    if (levels?.kind !== "scaled") throw new TypeError("Only scales of groups have a table");
    const { kernels, scratch } = this.#context, { cols } = source;
    const mark = scratch.mark();
    try {
      const w = this.#rowsOf(source);
      if (convrotGroupSize !== null) kernels.rotate(w, convrotGroupSize);
      return fitCodebook(levels, (scheme) => this.#onLevels(w, scheme, cols));
    } finally {
      scratch.release(mark);
    }
  }

  /** What rounding `w` to levels leaves, and a histogram of its values relative to the scales of their groups. */
  #onLevels(w: Float32Array, scheme: LevelScheme, cols: number): RoundedSample {
    const { scratch } = this.#context, mark = scratch.mark();
    const rows = w.length / cols, grid = { rows, cols, groupRows: 1, groupCols: cols };
    const codes = scratch.i8(w.length), scales = scratch.f32(rows);
    const tables = levelTables(scheme, (count) => scratch.u8(count));
    const choices = scratch.u8(w.length / tables.groupCols);
    roundToLevels(this.#context, scheme, { x: w, codes, scales, choices, grid, tables }, true);
    const histogram = emptyHistogram();
    let error = 0;
    for (let i = 0; i < w.length; i++) {
      const scale = scales[Math.floor(i / cols)]!;
      error += (w[i]! - codes[i]! * scale) ** 2;
      const own = scale * f8e4m3ToF32(choices[Math.floor(i / tables.groupCols)]!);
      if (own > 0) addValue(histogram, w[i]! / own, own * own);
    }
    scratch.release(mark);
    return { error, histogram };
  }

  #measured({ matrix: source, schemes, inputs, isCompensated }: SampledLayer): number[] {
    const { kernels, scratch } = this.#context;
    const { cols } = source;
    const exact = this.#rowsOf(source);
    const rows = exact.length / cols;
    const x = inputs === null ? null : this.#inputsOf(inputs);
    return schemes.map((scheme) => {
      // Rounding to BF16 is the same for all inputs: errors of outputs are about those of weights.
      if (scheme === "bf16") return relative(exact, exact.map((w) => bf16ToF32(f32ToBf16(w))));
      const mark = scratch.mark();
      const w = scratch.f32(exact.length);
      w.set(exact);
      const group = scheme.convrotGroupSize;
      if (group !== null) kernels.rotate(w, group);
      const what = this.#rounded(w, scheme, rows, cols);
      const error = x === null
        ? relative(w, what)
        : this.#outputError({ w, what, x, rows, cols, group }, isCompensated ? COMPENSATED : 1);
      scratch.release(mark);
      return error;
    });
  }

  /** The sample of a weight, f32 `[rows, cols]`. */
  #rowsOf(source: MatrixSource): Float32Array {
    const { scratch } = this.#context;
    const { rows, cols } = source;
    const count = rowsOf(rows, cols), bands = Math.ceil(count / BAND_ROWS);
    const exact = scratch.f32(count * cols);
    for (let band = 0; band < bands; band++) {
      const from = band * BAND_ROWS, height = Math.min(BAND_ROWS, count - from);
      const row = Math.floor((band * (rows - height)) / Math.max(1, bands - 1));
      const rect = { row, col: 0, rows: height, cols };
      const mark = scratch.mark();
      const raw = scratch.u8(rawBytes(source, rect));
      readRect(this.#context, raw, source, rect);
      const part = exact.subarray(from * cols, (from + height) * cols);
      decodeRect(this.#context, part, raw, source, rect);
      scratch.release(mark);
    }
    return exact;
  }

  /** Rows on the grid of `scheme`, in the space of its codes. */
  #rounded(w: Float32Array, scheme: Scheme, rows: number, cols: number): Float32Array {
    const { kernels, scratch } = this.#context;
    const grid = { rows, cols, groupRows: 1, groupCols: cols };
    const codes = scratch.i8(w.length), scales = scratch.f32(rows), out = scratch.f32(w.length);
    kernels.absmax(scales, w, grid);
    kernels.scaleFromAbsmax(scales, scales);
    if (scheme.levels === undefined) {
      kernels.searchScale(scales, w, grid);
      kernels.quantize(codes, w, scales, grid);
    } else {
      const tables = levelTables(scheme.levels, (count) => scratch.u8(count));
      const choices = scratch.u8(rows * (cols / tables.groupCols));
      const own = { x: w, codes, scales, choices, grid, tables };
      roundToLevels(this.#context, scheme.levels, own, true);
    }
    kernels.dequantize(out, codes, scales, grid);
    return out;
  }

  /** Inputs, f32 `[inputs, K]`, in original space. */
  #inputsOf(inputs: LayerInputs): Float32Array {
    const count = Math.min(inputs.rows, SAMPLED_INPUTS);
    const x = this.#context.scratch.f32(count * inputs.cols);
    for (let t = 0; t < count; t++) {
      const index = inputs.firstRow + Math.floor((t * inputs.rows) / count) * inputs.rowStep;
      const row = x.subarray(t * inputs.cols, (t + 1) * inputs.cols);
      loadInputRow(this.#context, inputs, index, row);
    }
    return x;
  }

  /** The floor of int8 inputs, and `kept` times what rounding of the weights costs. */
  #outputError(
    { w, what, x, rows, cols, group }: {
      w: Float32Array;
      what: Float32Array;
      x: Float32Array;
      rows: number;
      cols: number;
      group: number | null;
    },
    kept: number,
  ): number {
    const { kernels, scratch } = this.#context;
    const count = x.length / cols;
    const turned = scratch.f32(x.length), rounded = scratch.f32(x.length);
    turned.set(x);
    if (group !== null) kernels.rotate(turned, group);
    const grid = { rows: count, cols, groupRows: 1, groupCols: cols };
    const scales = scratch.f32(count), codes = scratch.i8(x.length);
    kernels.absmax(scales, turned, grid);
    kernels.scaleFromAbsmax(scales, scales);
    kernels.quantize(codes, turned, scales, grid);
    kernels.dequantize(rounded, codes, scales, grid);
    const a = matrix(w, rows, cols);
    const exact = this.#product(a, this.#transposed(turned, count, cols));
    const asInt8 = this.#product(a, this.#transposed(rounded, count, cols));
    const byWeights = this.#product(
      matrix(what, rows, cols),
      this.#transposed(turned, count, cols),
    );
    let floor = 0, added = 0, signal = 0;
    for (let row = 0; row < rows; row++) {
      const own = (values: Float32Array) => values.subarray(row * count, (row + 1) * count);
      const y = own(exact), q = own(asInt8), r = own(byWeights);
      for (let t = 0; t < count; t++) {
        signal += y[t]! ** 2;
        floor += (y[t]! - q[t]!) ** 2;
        added += (y[t]! - r[t]!) ** 2;
      }
    }
    return signal === 0 ? 0 : (floor + kept * added) / signal;
  }

  #transposed(x: Float32Array, rows: number, cols: number): MatrixF32 {
    const out = this.#context.scratch.f32(x.length);
    for (let r = 0; r < rows; r++) {
      for (let k = 0; k < cols; k++) out[k * rows + r] = x[r * cols + k]!;
    }
    return matrix(out, cols, rows);
  }

  #product(a: MatrixF32, b: MatrixF32): Float32Array {
    const out = this.#context.scratch.f32(a.rows * b.cols);
    this.#context.linalg!.kernels.gemmF32(matrix(out, a.rows, b.cols), a, b, "set");
    return out;
  }
}

function rowsOf(rows: number, cols: number): number {
  return Math.min(rows, SAMPLED_ROWS, Math.max(1, Math.floor(SAMPLED_ELEMENTS / cols)));
}

/** ‖w − what‖² / ‖w‖². */
function relative(w: Float32Array, what: Float32Array): number {
  let error = 0, signal = 0;
  for (let i = 0; i < w.length; i++) {
    error += (w[i]! - what[i]!) ** 2;
    signal += w[i]! ** 2;
  }
  return signal === 0 ? 0 : error / signal;
}
