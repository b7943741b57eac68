/**
 * Problems of the self-test for shaders that no kernel of an interface stands for: matrices stored in 2 bytes,
 * columns in another order, the second half of an int8 product.
 */

import { f16ToF32, f32ToF16 } from "../../core/dtype.ts";
import { fillNormal, type Random } from "../../core/rng.ts";
import { matrix } from "../../linalg/matrix.ts";
import type { Grid } from "../backend.ts";
import { Batch } from "./batch.ts";
import type { Gpu } from "./device.ts";
import { recordInt8Linear } from "./record_int8_linear.ts";
import {
  gpuMatrix,
  levelSlots,
  recordGatherCodes,
  recordGatherColumns,
  recordGemm,
  recordLdlqBlock,
  recordNarrow,
} from "./record_matrix.ts";
import { recordGemmI8 } from "./record_products.ts";
import {
  blockLevels,
  close,
  codesOf,
  exact,
  ldlqPanel,
  normal,
  type Result,
  type RightKernels,
  rowScales,
} from "./self_test_problems.ts";
import { WebGpuKernels } from "./webgpu_kernels.ts";
import { inPairs } from "./webgpu_linalg.ts";

/** Results of the device, and the right ones, for the same random numbers. */
export interface DeviceProblem {
  run(gpu: Gpu, random: Random): Promise<readonly Result[]>;
  want(right: RightKernels, random: Random): readonly Result[] | Promise<readonly Result[]>;
}

/** Rows, columns and terms of products; rows of half-width operands are whole words. */
const M = 67, N = 70, K = 130;

/** Rows and columns of a block; on levels groups are whole. */
const BLOCK = { rows: 37, width: 40 }, LEVELS_BLOCK = { rows: 37, width: 48 };

/** Bytes of a row of codes in whole words. */
const CODE_ROW = 4 * Math.ceil(N / 4);

/** By name, for people. */
export const DEVICE_PROBLEMS: Readonly<Record<string, DeviceProblem>> = {
  "gemmF32 of f16": storedAs("f16", f32ToF16, f16ToF32),
  "ldlqBlock of f16": ldlqOf("f16", f32ToF16, f16ToF32, { onLevels: false }),
  "ldlqLevels of f16": ldlqOf("f16", f32ToF16, f16ToF32, { onLevels: true }),
  "rotate in stages": {
    async run(gpu, random) {
      return await rotated(random, (x, group) => new WebGpuKernels(gpu).rotate(x, group));
    },
    want: async ({ kernels }, random) =>
      await rotated(random, (x, group) => Promise.resolve(kernels.rotate(x, group))),
  },
  "gatherColumns": {
    async run(gpu, random) {
      const { x, order } = gathered(random), out = new Float32Array(x.length);
      const batch = new Batch("gather columns"), slot = batch.scratch("out", out.byteLength);
      const places = { x: batch.input("x", x), order: batch.input("order", order) };
      recordGatherColumns(batch, slot, { ...places, rows: M, cols: N });
      batch.output(slot, out);
      await batch.run(gpu);
      return [exact(out)];
    },
    want(_right, random) {
      const { x, order } = gathered(random);
      return [exact(x.map((_, at) => x[at - at % N + order[at % N]!]!))];
    },
  },
  "gatherCodes": {
    async run(gpu, random) {
      const { codes, order } = gatheredCodes(random), out = new Int8Array(codes.length);
      const batch = new Batch("gather codes"), slot = batch.scratch("out", out.byteLength);
      const places = { x: batch.input("x", codes), order: batch.input("order", order) };
      recordGatherCodes(batch, slot, { ...places, rows: M, cols: N });
      batch.output(slot, out);
      await batch.run(gpu);
      return [exact(out)];
    },
    want(_right, random) {
      const { codes, order } = gatheredCodes(random);
      const width = CODE_ROW;
      return [
        exact(
          codes.map((_, at) => at % width < N ? codes[at - at % width + order[at % width]!]! : 0),
        ),
      ];
    },
  },
  "gemmI8 without packed products": {
    async run(gpu, random) {
      const [a, b] = [codesOf(random, M * K), codesOf(random, N * K)], out = new Int32Array(M * N);
      const batch = new Batch("gemmI8 of bits"), slot = batch.scratch("out", out.byteLength);
      const operands = { a: { slot: batch.input("a", a) }, b: { slot: batch.input("b", b) } };
      recordGemmI8(batch, slot, { ...operands, m: M, n: N, k: K, packed: false });
      batch.output(slot, out);
      await batch.run(gpu);
      return [exact(out)];
    },
    want({ linalg }, random) {
      const [a, b] = [codesOf(random, M * K), codesOf(random, N * K)], out = new Int32Array(M * N);
      linalg.gemmI8(out, a, b, M, N, K);
      return [exact(out)];
    },
  },
  "scaledProduct": {
    async run(gpu, random) {
      const { x, codes, scales, grid } = int8Layer(random), out = new Float32Array(M * grid.rows);
      const batch = new Batch("int8 layer"), slot = batch.scratch("out", out.byteLength);
      const weight = { codes: batch.input("codes", codes), scales: batch.input("scales", scales) };
      recordInt8Linear(batch, slot, {
        ...{ x: batch.input("x", x), m: M, ...weight, grid, convrotGroupSize: null },
      });
      batch.output(slot, out);
      await batch.run(gpu);
      return [exact(out)];
    },
    want({ kernels }, random) {
      const { x, codes, scales, grid } = int8Layer(random), { rows: n, cols: k, groupCols } = grid;
      const inputs: Grid = { rows: M, cols: k, groupRows: 1, groupCols: k };
      const xScales = new Float32Array(M), xCodes = new Int8Array(M * k), across = k / groupCols;
      kernels.absmax(xScales, x, inputs);
      kernels.scaleFromAbsmax(xScales, xScales);
      kernels.quantize(xCodes, x, xScales, inputs);
      const out = new Float32Array(M * n);
      out.forEach((_, at) => {
        const i = Math.floor(at / n), j = at % n;
        for (let group = 0; group < across; group++) {
          let sum = 0;
          for (let t = group * groupCols; t < (group + 1) * groupCols; t++) {
            sum += xCodes[i * k + t]! * codes[j * k + t]!;
          }
          const scale = scales[Math.floor(j / grid.groupRows) * across + group]!;
          const value = Math.fround(Math.fround(sum * xScales[i]!) * scale);
          out[at] = group === 0 ? value : out[at]! + value;
        }
      });
      return [exact(out)];
    },
  },
};

type Narrow = (value: number) => number;

function storedAs(storage: "f16", narrow: Narrow, widen: Narrow): DeviceProblem {
  return {
    async run(gpu, random) {
      const { a, b } = operands(random);
      const bits = new Uint16Array(M * K), c = new Float32Array(M * N);
      const batch = new Batch(`product of ${storage}`);
      const stored = (label: string, values: Float32Array, rows: number, cols: number) => {
        const slot = batch.scratch(label, 2 * values.length);
        const narrowed = gpuMatrix(slot, { rows, cols, storage });
        const given = gpuMatrix(batch.input(`${label} in f32`, values), { rows, cols });
        recordNarrow(batch, narrowed, given, 1);
        return narrowed;
      };
      const left = stored("a", a, M, K), right = stored("b", b, K, N);
      const out = gpuMatrix(batch.scratch("c", c.byteLength), { rows: M, cols: N });
      recordGemm(batch, out, { a: left, b: right, mode: "set" });
      batch.output(left.slot, bits);
      batch.output(out.slot, c);
      await batch.run(gpu);
      return products(bits, c);
    },
    want({ linalg }, random) {
      const { a, b } = operands(random);
      const bits = Uint16Array.from(a, narrow), c = new Float32Array(M * N);
      const widened = (values: Float32Array) => values.map((value) => widen(narrow(value)));
      linalg.gemmF32(matrix(c, M, N), matrix(widened(a), M, K), matrix(widened(b), K, N), "set");
      return products(bits, c);
    },
  };
}

function operands(random: Random) {
  const a = new Float32Array(M * K), b = new Float32Array(K * N);
  fillNormal(a, random);
  fillNormal(b, random);
  return { a, b };
}

function products(bits: Uint16Array, c: Float32Array): Result[] {
  return [exact(bits), close(c, 1e-5)];
}

function ldlqOf(
  storage: "f16",
  narrow: Narrow,
  widen: Narrow,
  { onLevels }: { readonly onLevels: boolean },
): DeviceProblem {
  const { rows, width } = onLevels ? LEVELS_BLOCK : BLOCK;
  const problem = (random: Random) => ({
    weights: normal(random, rows * width),
    feedback: normal(random, rows * width),
    bits: Uint16Array.from(ldlqPanel(random, width), narrow),
    levels: blockLevels(random, { rows, cols: width }, true),
  });
  return {
    async run(gpu, random) {
      const { weights, feedback, bits, levels } = problem(random);
      const grid = rowScales(rows, width), groups = grid.columnGroups;
      const { columnSets, across, nearest, search } = levels;
      const sets = Uint32Array.from(levels.choices);
      const codes = new Int8Array(rows * width), batch = new Batch(`block of ${storage}`);
      const w = gpuMatrix(batch.input("weights", weights), { rows, cols: width });
      const slot = batch.scratch("codes", codes.byteLength);
      const choices = batch.input("choices", sets);
      recordLdlqBlock(batch, {
        ...grid,
        codes: { slot, start: 0, rowStride: width / 4 },
        weights: w,
        feedback: gpuMatrix(batch.input("feedback", feedback), { rows, cols: width }),
        panel: gpuMatrix(batch.input("panel", bits), { rows: width, cols: width, storage }),
        scales: batch.input("scales", grid.scales),
        columnGroups: batch.input("groups", onLevels ? inPairs(groups, columnSets) : groups),
        groupsStart: 0,
        levels: !onLevels
          ? undefined
          : { choices, across, ...levelSlots(batch, nearest, search ?? null) },
      });
      if (onLevels) batch.output(choices, sets);
      batch.output(slot, codes);
      batch.output(w.slot, weights);
      await batch.run(gpu);
      return [exact(codes), exact(weights), exact(sets)];
    },
    want({ linalg }, random) {
      const { weights, feedback, bits, levels } = problem(random);
      const codes = new Int8Array(rows * width), grid = rowScales(rows, width);
      const args = {
        ...grid,
        codes,
        codesRowStride: width,
        weights: matrix(weights, rows, width),
        feedback: matrix(feedback, rows, width),
        panel: matrix(Float32Array.from(bits, widen), width, width),
      };
      if (onLevels) linalg.ldlqLevels({ ...args, levels });
      else linalg.ldlqBlock(args);
      return [exact(codes), exact(weights), exact(levels.choices)];
    },
  };
}

/** Groups that are too large for the memory of a workgroup; an odd and an even number of stages. */
async function rotated(
  random: Random,
  rotate: (x: Float32Array, groupSize: number) => Promise<void>,
): Promise<Result[]> {
  const results: Result[] = [];
  for (const groupSize of [4096, 16384]) {
    const x = normal(random, 16384);
    await rotate(x, groupSize);
    results.push(exact(x));
  }
  return results;
}

function orderOf(random: Random): Uint32Array {
  const order = Uint32Array.from({ length: N }, (_, k) => k);
  for (let k = N - 1; k > 0; k--) {
    const other = random() % (k + 1), kept = order[k]!;
    order[k] = order[other]!;
    order[other] = kept;
  }
  return order;
}

function gathered(random: Random) {
  return { x: normal(random, M * N), order: orderOf(random) };
}

function gatheredCodes(random: Random) {
  return { codes: codesOf(random, M * CODE_ROW), order: orderOf(random) };
}

function int8Layer(random: Random) {
  const grid: Grid = { rows: 20, cols: 96, groupRows: 2, groupCols: 32 };
  const scales = normal(random, grid.rows / 2 * 3).map((value) => 0.02 + 0.001 * value);
  return {
    x: normal(random, M * grid.cols),
    codes: codesOf(random, grid.rows * grid.cols),
    scales,
    grid,
  };
}
