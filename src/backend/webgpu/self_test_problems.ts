/**
 * A small problem for every kernel that a GPU runs, the same numbers every time: `self_test.ts` gives it to
 * the GPU and to kernels that are known to be right. Sizes are odd if a kernel allows it.
 */

import { DTYPE_BITS, FLOAT_DTYPES } from "../../core/dtype.ts";
import { fillNormal, type Random } from "../../core/rng.ts";
import { type BlockLevels, LEVELS_TRIED, type LinalgKernels } from "../../linalg/linalg_kernels.ts";
import { matrix } from "../../linalg/matrix.ts";
import {
  FLOAT_GROUP_COLS,
  type Grid,
  groupCount,
  type Kernels,
  LEVEL_TABLE,
  STATS_LENGTH,
  STEPS_BYTES,
  TABLE_BYTES,
  TABLE_ERROR_BYTES,
} from "../backend.ts";
import type { AsyncKernels } from "./webgpu_kernels.ts";
import type { AsyncLinalg, GpuLinalgName } from "./webgpu_linalg.ts";

/** Something a kernel wrote, or returned. */
export interface Result {
  readonly values: ArrayLike<number>;
  /** 0: the same bits. Otherwise how far a value may be off, in parts of the largest magnitude. */
  readonly tolerance: number;
}

/** Gives the same problem to any kernels each time, with random numbers of a fixed seed. */
export type Problem<K> = (kernels: K, random: Random) => Promise<readonly Result[]>;

/** Kernels that take arrays of any memory, as those of `backend/reference` do. */
export interface RightKernels {
  readonly kernels: Kernels;
  readonly linalg: Pick<LinalgKernels, GpuLinalgName>;
}

type Either<Sync, Async> = { readonly [K in keyof Async & keyof Sync]: Sync[K] | Async[K] };

/** Exact or asynchronous ones. */
export type AnyKernels = Either<Kernels, AsyncKernels>;
export type AnyLinalg = Either<Pick<LinalgKernels, GpuLinalgName>, AsyncLinalg>;

const GRID: Grid = { rows: 6, cols: 210, groupRows: 2, groupCols: 70 };
const COUNT = GRID.rows * GRID.cols;

/** Values that are decoded: no whole number of words, and several workgroups. */
const DECODED = 2999;

/** Where each of 15 numbers in their order is in a binary tree. */
const TREE = [8, 4, 9, 2, 10, 5, 11, 1, 12, 6, 13, 3, 14, 7, 15];

/** Rows whose groups of 16 columns have one of several sets of levels. */
const LEVEL_GRID: Grid = { rows: 12, cols: 208, groupRows: 2, groupCols: 208 };

/** Tables of any numbers: what is in them, kernels do not care for. */
function levelSets(random: Random) {
  const sets = 9;
  return { groupCols: 16, nearest: codesOf(random, sets * LEVEL_TABLE), sets };
}

/** The kernels on values. */
export const KERNEL_PROBLEMS: Readonly<Record<keyof AsyncKernels, Problem<AnyKernels>>> = {
  decode: async (kernels, random) => {
    const results: Result[] = [];
    for (const dtype of FLOAT_DTYPES) {
      // Any bits: NaN, infinite and subnormal numbers too.
      const source = Uint8Array.from(
        { length: DECODED * DTYPE_BITS[dtype] / 8 },
        () => random() & 0xff,
      );
      const out = new Float32Array(DECODED);
      await kernels.decode(out, source, dtype);
      results.push(exact(out));
    }
    return results;
  },
  countNonFinite: async (kernels, random) => {
    const x = normal(random, 1000);
    x[321] = NaN;
    x[654] = -Infinity;
    const { count, first } = await kernels.countNonFinite(x);
    return [exact([count, first])];
  },
  absmax: async (kernels, random) => {
    const out = new Float32Array(groupCount(GRID));
    await kernels.absmax(out, normal(random, COUNT), GRID);
    return [exact(out)];
  },
  scaleFromAbsmax: async (kernels, random) => {
    const scales = new Float32Array(300);
    await kernels.scaleFromAbsmax(scales, normal(random, 300).map(Math.abs));
    return [exact(scales)];
  },
  quantize: async (kernels, random) => {
    const codes = new Int8Array(COUNT);
    await kernels.quantize(codes, normal(random, COUNT), scalesOf(random), GRID);
    return [exact(codes)];
  },
  quantizeLevels: async (kernels, random) => {
    const { rows, cols } = LEVEL_GRID, { sets, ...tables } = levelSets(random);
    const codes = new Int8Array(rows * cols), x = normal(random, rows * cols);
    const choices = Uint8Array.from({ length: rows * cols / 16 }, () => random() % sets);
    const scales = new Float32Array(groupCount(LEVEL_GRID)).fill(3 / 127);
    await kernels.quantizeLevels(codes, x, scales, LEVEL_GRID, { ...tables, choices });
    return [exact(codes)];
  },
  searchLevels: async (kernels, random) => {
    const { rows, cols } = LEVEL_GRID, { sets, ...tables } = levelSets(random);
    const choices = new Uint8Array(rows * cols / 16), x = normal(random, rows * cols);
    const first = Uint8Array.from({ length: 256 }, () => random() % sets);
    const scales = new Float32Array(groupCount(LEVEL_GRID)).fill(3 / 127),
      search = { ...tables, first, candidates: 5 };
    await kernels.searchLevels(choices, x, scales, LEVEL_GRID, search);
    return [exact(choices)];
  },
  roundToTable: async (kernels, random) => {
    const sets = 9, steps = codesOf(random, sets * TABLE_BYTES);
    for (let at = 0; at < steps.length; at += TABLE_BYTES) {
      const levels = steps.subarray(at + 16, at + 32).sort();
      for (let i = 0; i < 16; i++) {
        const twice = i === 15 ? 255 : levels[i]! + levels[i + 1]!;
        if (i < 15) steps[at + TREE[i]!] = twice >> 1;
        steps[at + 32 + i] = twice % 2 === 0 ? twice / 2 : -128;
      }
    }
    const first = Uint8Array.from({ length: 128 }, () => random() % sets);
    return await roundedLevels(
      random,
      (codes, choices, x, scales) =>
        kernels.roundToTable(codes, choices, x, scales, LEVEL_GRID, {
          groupCols: 16,
          steps,
          first,
          errors: new Uint8Array(sets * TABLE_ERROR_BYTES),
        }),
    );
  },
  roundToSteps: async (kernels, random) => {
    const sets = 9, steps = new Uint8Array(sets * STEPS_BYTES);
    for (let set = 0; set < sets; set++) {
      for (let j = 0; j < 32; j++) {
        // Steps of 1 to 3.
        const step = 1 + set / 4, level = (k: number) => Math.round(k * step);
        steps[set * STEPS_BYTES + j] = j === 31 ? 255 : level(j) + level(j + 1);
        steps[set * STEPS_BYTES + 32 + j] = level(j);
        const factor = Math.round(2 ** 14 / step);
        steps.set([factor & 255, factor >> 8], set * STEPS_BYTES + 64);
      }
    }
    const first = Uint8Array.from({ length: 256 }, () => random() % sets);
    return await roundedLevels(
      random,
      (codes, choices, x, scales) =>
        kernels.roundToSteps(codes, choices, x, scales, LEVEL_GRID, {
          groupCols: 16,
          steps,
          first,
        }),
    );
  },
  roundFloats: async (kernels, random) => {
    const results: Result[] = [];
    for (const kind of ["e4m3", "e4m3Groups", "e2m1Groups"] as const) {
      // More than one workgroup of words of codes, or of scales of groups.
      const size = FLOAT_GROUP_COLS[kind], count = size === null ? 1503 : 301 * size;
      const x = normal(random, count),
        codes = new Uint8Array(kind === "e2m1Groups" ? count / 2 : count);
      const groupScales = new Uint8Array(size === null ? 0 : count / size);
      const values = new Float32Array(count), scale = kind === "e4m3" ? 4 / 448 : 4 / 2688;
      await kernels.roundFloats(codes, groupScales, values, x, { kind, scale, search: true });
      results.push(exact(codes), exact(groupScales), exact(values));
    }
    return results;
  },
  searchClip: async (kernels, random) => {
    // Two runs of a sum, and more shares than are tried at a time.
    const rows = 5, cols = 1100, scales = new Float32Array(rows).fill(4 / 7);
    const shares = Float32Array.from({ length: 20 }, (_, i) => 1 - i / 32);
    await kernels.searchClip(scales, normal(random, rows * cols), shares, cols);
    return [exact(scales)];
  },
  packLevels: async (kernels, random) => {
    const { rows, cols } = LEVEL_GRID, sets = 9, results: Result[] = [];
    for (const bits of [4, 6] as const) {
      const packed = new Uint8Array(rows * cols * bits / 8);
      await kernels.packLevels(packed, codesOf(random, rows * cols), {
        bits,
        cols,
        groupCols: 16,
        choices: Uint8Array.from({ length: rows * cols / 16 }, () => random() % sets),
        codes: Uint8Array.from({ length: sets * 256 }, () => random() % 2 ** bits),
      });
      results.push(exact(packed));
    }
    return results;
  },
  dequantize: async (kernels, random) => {
    const out = new Float32Array(COUNT);
    await kernels.dequantize(out, codesOf(random, COUNT), scalesOf(random), GRID);
    return [exact(out)];
  },
  searchScale: async (kernels, random) => {
    const results: Result[] = [];
    // Small groups, and rows that keep all of a workgroup busy.
    for (const grid of [GRID, { rows: 2, cols: 4500, groupRows: 1, groupCols: 4500 }]) {
      const x = normal(random, grid.rows * grid.cols);
      const scales = new Float32Array(groupCount(grid)).fill(6 / 127);
      await kernels.searchScale(scales, x, grid);
      results.push(exact(scales));
    }
    return results;
  },
  rotate: async (kernels, random) => {
    const results: Result[] = [];
    // Stages alternate: an odd and an even number of them.
    for (const groupSize of [64, 256]) {
      const x = normal(random, 3072);
      await kernels.rotate(x, groupSize);
      results.push(exact(x));
    }
    return results;
  },
  histogram: async (kernels, random) => {
    const counts = new Uint32Array(64);
    await kernels.histogram(counts, normal(random, 3000), 20);
    return [exact(counts)];
  },
  castF16: async (kernels, random) => {
    const x = normal(random, 999), out = new Uint16Array(999);
    x[500] = 1e6;
    const first = await kernels.castF16(out, x);
    return [exact(out), exact([first])];
  },
  errorStats: async (kernels, random) => {
    const stats = new Float64Array(STATS_LENGTH), x = normal(random, 5000);
    const noise = normal(random, 5000);
    await kernels.errorStats(stats, x, x.map((value, i) => value + 0.01 * noise[i]!));
    return Array.from(stats, (value) => close([value], 1e-5));
  },
};

/** The kernels on matrices. */
export const LINALG_PROBLEMS: Readonly<Record<GpuLinalgName, Problem<AnyLinalg>>> = {
  gemmF32: async (linalg, random) => {
    const [m, n, k] = [67, 70, 130];
    const c = normal(random, m * n);
    const a = matrix(normal(random, m * k), m, k), b = matrix(normal(random, k * n), k, n);
    await linalg.gemmF32(matrix(c, m, n), a, b, "subtract");
    return [close(c, 1e-5)];
  },
  gemmI8: async (linalg, random) => {
    const [m, n, k] = [67, 70, 131];
    const out = new Int32Array(m * n);
    await linalg.gemmI8(out, codesOf(random, m * k), codesOf(random, n * k), m, n, k);
    return [exact(out)];
  },
  addLowRank: async (linalg, random) => {
    const [rows, cols, rank] = [67, 70, 33];
    const x = normal(random, rows * cols);
    const b = normal(random, rows * rank), a = normal(random, rank * cols);
    await linalg.addLowRank(x, b, a, { rows, cols, rank });
    return [exact(x)];
  },
  feedBack: async (linalg, random) => {
    const [rows, cols, terms] = [68, 72, 33];
    const short = (lines: number) => ({
      pairs: Int32Array.from({ length: lines * Math.ceil(terms / 2) }, () => {
        // Pairs of 11 bits with their signs, whose sums do not fit in f32.
        return ((random() & 0xfff) - 2048 << 16) | ((random() & 0xfff) - 2048 & 0xffff);
      }),
      scales: normal(random, lines),
    });
    const c = normal(random, rows * cols);
    await linalg.feedBack(matrix(c, rows, cols), short(rows), short(cols), terms, true);
    return [exact(c)];
  },
  ldlqBlock: async (linalg, random) => {
    const { args, results } = ldlqProblem(random, { rows: 19, width: 40 });
    await linalg.ldlqBlock(args);
    return results();
  },
  ldlqLevels: async (linalg, random) => {
    const all: Result[] = [];
    for (const isChosen of [false, true]) {
      const { args, results } = ldlqProblem(random, { rows: 19, width: 48 });
      const levels = blockLevels(random, args.weights, isChosen);
      await linalg.ldlqLevels({ ...args, levels });
      all.push(...results(), exact(levels.choices));
    }
    return all;
  },
  descendRows: async (linalg, random) => {
    const [rows, cols, width, rank] = [19, 70, 90, 100];
    const scale = 0.03, panel = normal(random, cols * width).map((value) => 0.1 * value);
    for (let j = 0; j < cols; j++) panel[j * width + 10 + j] = 1;
    const codes = codesOf(random, rows * cols), totals = new Float64Array(3);
    const errors = normal(random, rows * cols).map((value) => 0.1 * scale * value);
    const gradient = normal(random, rows * width).map((value) => scale * value);
    const sums = new Float32Array(cols * rank);
    await linalg.descendRows({
      codes,
      codesRowStride: cols,
      errors: matrix(errors, rows, cols),
      gradient: matrix(gradient, rows, width),
      offset: 10,
      panel: matrix(panel, cols, width),
      weights: new Float32Array(rows).fill(1),
      factors: matrix(normal(random, rows * rank), rows, rank),
      sums: matrix(sums, cols, rank),
      totals,
      ...rowScales(rows, cols),
      penalty: 0.1,
    });
    const [moves, gain, cost] = totals;
    const arrays = [codes, errors, gradient, sums, [moves!]].map(exact);
    return [...arrays, close([gain!], 1e-4), close([cost!], 1e-4)];
  },
  hadamardRows: async (linalg, random) => {
    const x = normal(random, 5 * 512);
    await linalg.hadamardRows(matrix(x, 5, 512));
    return [exact(x)];
  },
  hadamardColumns: async (linalg, random) => {
    const x = normal(random, 512 * 5);
    await linalg.hadamardColumns(matrix(x, 512, 5));
    return [exact(x)];
  },
};

/** Codes and choices that `run` finds for normal values. */
async function roundedLevels(
  random: Random,
  run: (
    codes: Int8Array,
    choices: Uint8Array,
    x: Float32Array,
    scales: Float32Array,
  ) => void | Promise<void>,
): Promise<Result[]> {
  const count = LEVEL_GRID.rows * LEVEL_GRID.cols;
  const codes = new Int8Array(count), choices = new Uint8Array(count / 16);
  const scales = new Float32Array(groupCount(LEVEL_GRID)).fill(3 / 127);
  await run(codes, choices, normal(random, count), scales);
  return [exact(codes), exact(choices)];
}

export function exact(values: ArrayLike<number>): Result {
  return { values, tolerance: 0 };
}

export function close(values: ArrayLike<number>, tolerance: number): Result {
  return { values, tolerance };
}

export function normal(random: Random, length: number): Float32Array {
  const values = new Float32Array(length);
  fillNormal(values, random);
  return values;
}

export function codesOf(random: Random, length: number): Int8Array {
  return Int8Array.from({ length }, () => random() % 255 - 127);
}

function scalesOf(random: Random): Float32Array {
  return normal(random, groupCount(GRID)).map((value) => 0.02 + 0.001 * value);
}

/** A unit lower triangle. */
export function ldlqPanel(random: Random, width: number): Float32Array {
  const panel = normal(random, width * width).map((value) => 0.1 * value);
  for (let j = 0; j < width; j++) {
    panel[j * width + j] = 1;
    panel.fill(0, j * width + j + 1, (j + 1) * width);
  }
  return panel;
}

/** One scale per row, each a little different. */
export function rowScales(rows: number, cols: number) {
  return {
    scales: Float32Array.from({ length: rows }, (_, r) => 0.03 + 0.001 * r),
    scaleCols: 1,
    groupRows: 1,
    firstRow: 0,
    columnGroups: new Int32Array(cols),
  };
}

/** Levels of a block of columns in groups of 16, the last group of the layer first. */
export function blockLevels(
  random: Random,
  { rows, cols }: { readonly rows: number; readonly cols: number },
  isChosen: boolean,
): BlockLevels {
  const { sets, nearest, groupCols } = levelSets(random), across = cols / groupCols;
  const first = Uint8Array.from({ length: 256 }, () => random() % sets);
  return {
    choices: Uint8Array.from({ length: rows * across }, () => random() % sets),
    across,
    columnSets: Int32Array.from({ length: cols }, (_, j) => across - 1 - Math.floor(j / groupCols)),
    nearest,
    search: isChosen
      ? { groupCols, first, spare: new Float32Array(LEVELS_TRIED * groupCols) }
      : null,
  };
}

/** A block of columns that is rounded, and what becomes of it. */
function ldlqProblem(
  random: Random,
  { rows, width }: { readonly rows: number; readonly width: number },
) {
  const codes = new Int8Array(rows * width), weights = normal(random, rows * width);
  const panel = ldlqPanel(random, width);
  return {
    args: {
      codes,
      codesRowStride: width,
      weights: matrix(weights, rows, width),
      feedback: matrix(normal(random, rows * width), rows, width),
      panel: matrix(panel, width, width),
      ...rowScales(rows, width),
    },
    results: (): Result[] => [exact(codes), exact(weights)],
  };
}
