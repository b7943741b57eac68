import assert from "node:assert/strict";
import fc from "fast-check";
import type { Grid } from "../../../src/backend/backend.ts";
import { randomFor } from "../../../src/core/rng.ts";
import { withScratch } from "../../../src/linalg/context.ts";
import { matrix, type MatrixF32 } from "../../../src/linalg/matrix.ts";
import { topSubspaces } from "../../../src/linalg/subspace.ts";
import type { MomentBlocks } from "../../../src/quant/learned/learned_rounding.ts";
import { LEARNED_OPTIMIZERS, SCHEDULES } from "../../../src/quant/learned/options.ts";
import { put } from "../../linalg/contexts.ts";
import { hessianOfInputs } from "../../linalg/whole_hessian.ts";
import { type SyntheticLayer, syntheticLayer } from "../../support/synthetic_layer.ts";
import { arena, context, energy, errorsOf, round } from "./rounding.ts";

const GRIDS: Readonly<Record<string, (rows: number, cols: number) => Grid>> = {
  row: (rows, cols) => ({ rows, cols, groupRows: 1, groupCols: cols }),
  block: (rows, cols) => ({ rows, cols, groupRows: 64, groupCols: 64 }),
  tensor: (rows, cols) => ({ rows, cols, groupRows: rows, groupCols: cols }),
};

/** ‖U E Vᵀ‖² for exact leading directions of the weights, in f64. */
function projectedLoss(
  weights: Float32Array,
  errors: Float64Array,
  [rows, cols, count]: readonly [number, number, number],
): number {
  return withScratch(context, () => {
    const w = matrix(put(arena, weights), rows, cols);
    const { left, right } = topSubspaces(context, w, {
      count,
      full: true,
      refinements: 0,
      random: randomFor(0, ""),
    });
    const row = (m: MatrixF32, i: number) => m.data.subarray(i * m.cols, (i + 1) * m.cols);
    let loss = 0;
    for (let a = 0; a < left.rows; a++) {
      const u = row(left, a), mixed = new Float64Array(cols);
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < cols; j++) mixed[j] = mixed[j]! + u[i]! * errors[i * cols + j]!;
      }
      for (let b = 0; b < right.rows; b++) {
        const v = row(right, b);
        let sum = 0;
        for (let j = 0; j < cols; j++) sum += mixed[j]! * v[j]!;
        loss += sum * sum;
      }
    }
    return loss;
  });
}

function momentsOf(layer: SyntheticLayer, count: number): MomentBlocks {
  return withScratch(context, () => {
    const { cols } = layer, x = matrix(put(arena, layer.inputs(count, 1)), count, cols);
    const h = hessianOfInputs(context, x);
    return { size: cols, blockSize: cols, values: Float32Array.from(h.values) };
  });
}

/** ‖X Eᵀ‖² on inputs that no moments came from. */
function outputLoss(layer: SyntheticLayer, errors: Float64Array): number {
  const { rows, cols } = layer, count = 96, x = layer.inputs(count, 2);
  let loss = 0;
  for (let t = 0; t < count; t++) {
    for (let i = 0; i < rows; i++) {
      let sum = 0;
      for (let j = 0; j < cols; j++) sum += x[t * cols + j]! * errors[i * cols + j]!;
      loss += sum * sum;
    }
  }
  return loss;
}

const LAYER = syntheticLayer({ rows: 192, cols: 256, seed: 4 });

for (const name of ["row", "block"] as const) {
  Deno.test(`roundProjected() has at most 0.6 of the loss of rounding to nearest on a ${name} grid, within 0.3 dB`, () => {
    const { rows, cols, weight } = LAYER, grid = GRIDS[name]!(rows, cols);
    for (const optimizer of LEARNED_OPTIMIZERS) {
      const options = { minDirections: 48 };
      const { nearest, codes, scales, reference } = round(weight, grid, { optimizer, options });
      const before = errorsOf(weight, nearest, scales, grid);
      const after = errorsOf(weight, codes, scales, grid);
      const sizes = [rows, cols, 48] as const;
      const ratio = Math.sqrt(
        projectedLoss(weight, after, sizes) / projectedLoss(weight, before, sizes),
      );
      assert(ratio <= 0.6, `${optimizer}: ${ratio}`);
      const fall = 10 * Math.log10(energy(after) / reference);
      assert(fall <= 0.3001, `${optimizer}: ${fall} dB`);
    }
  });
}

Deno.test("roundForOutputs() has at most 0.75 of the held-out output error on a row grid", () => {
  const { rows, cols, weight } = LAYER, grid = GRIDS["row"]!(rows, cols);
  const moments = momentsOf(LAYER, 512);
  const { nearest, codes, scales } = round(weight, grid, { moments });
  const after = outputLoss(LAYER, errorsOf(weight, codes, scales, grid));
  const ratio = Math.sqrt(after / outputLoss(LAYER, errorsOf(weight, nearest, scales, grid)));
  assert(ratio <= 0.75, `${ratio}`);
});

/** Weights of any kind: heavy tails, zeros, equal values, subnormals, one row, one column. */
const matrices = fc.record({
  rows: fc.integer({ min: 1, max: 24 }),
  cols: fc.integer({ min: 1, max: 24 }),
  seed: fc.nat(),
  magnitude: fc.constantFrom(1, 1e-30, 1e30, 1e-3),
  power: fc.constantFrom(0, 1, 3, 9),
  zeros: fc.constantFrom(0, 0.3, 1),
  rankOne: fc.boolean(),
}).map(({ rows, cols, seed, magnitude, power, zeros, rankOne }) => {
  const next = randomFor(seed, "weights"), unit = () => next() / 2 ** 31 - 1;
  const left = Array.from({ length: rows }, unit), right = Array.from({ length: cols }, unit);
  const weights = Float32Array.from({ length: rows * cols }, (_, at) => {
    const x = rankOne ? left[Math.floor(at / cols)]! * right[at % cols]! : unit();
    return (next() / 2 ** 32 < zeros ? 0 : 1) * magnitude * x * Math.abs(x) ** power;
  });
  return { rows, cols, weights, seed };
});

Deno.test("roundProjected() is never worse than rounding to nearest, and moves codes to neighbours only, on any input", () => {
  fc.assert(
    fc.property(
      matrices,
      fc.constantFrom(...LEARNED_OPTIMIZERS),
      fc.boolean(),
      fc.boolean(),
      ({ rows, cols, weights, seed }, optimizer, isTensor, fullMatrix) => {
        const grid = GRIDS[isTensor ? "tensor" : "row"]!(rows, cols);
        const count = Math.max(1, Math.floor(Math.min(rows, cols) / 2));
        const options = { minDirections: count, iterations: 60, fullMatrix };
        const done = round(weights, grid, { optimizer, options, seed });
        const { nearest, codes, scales, result } = done;
        assert(result.lossAfter <= result.lossBefore);
        const before = errorsOf(weights, nearest, scales, grid);
        const after = errorsOf(weights, codes, scales, grid);
        if (fullMatrix) {
          const sizes = [rows, cols, count] as const;
          const [was, is] = [before, after].map((e) => projectedLoss(weights, e, sizes));
          assert(is! <= was! * (1 + 1e-4), `${is} > ${was}`);
        }
        const most = done.reference * 10 ** 0.03;
        assert(energy(after) <= Math.max(most, energy(before)) * (1 + 1e-5));
        codes.forEach((code, at) => {
          const scale = scales[isTensor ? 0 : Math.floor(at / cols)]!;
          const real = Math.max(-127, Math.min(127, weights[at]! / scale));
          assert(Math.abs(code - real) < 1 + 1e-5, `${at}: ${code} for ${real}`);
          assert(code >= -127 && code <= 127);
        });
      },
    ),
    { numRuns: 120 },
  );
});

Deno.test("roundForOutputs() is never worse than rounding to nearest in any row block and any blocks of moments", () => {
  fc.assert(
    fc.property(matrices, fc.constantFrom(...LEARNED_OPTIMIZERS), fc.boolean(), (
      { rows, cols, weights, seed },
      optimizer,
      isDiagonal,
    ) => {
      const grid = GRIDS["row"]!(rows, cols), next = randomFor(seed, "moments");
      const blockSize = isDiagonal ? 1 : cols;
      const x = Array.from({ length: 5 * cols }, () => next() / 2 ** 31 - 1);
      const h = (i: number, j: number) => {
        let sum = i === j ? 0.1 : 0;
        for (let t = 0; t < 5; t++) sum += x[t * cols + i]! * x[t * cols + j]!;
        return sum;
      };
      const values = Float32Array.from({ length: cols * blockSize }, (_, at) => {
        const i = Math.floor(at / blockSize);
        return h(i, i - i % blockSize + at % blockSize);
      });
      const done = round(weights, grid, {
        optimizer,
        options: { iterations: 40 },
        moments: { size: cols, blockSize, values },
      });
      const lossOf = (codes: Int8Array) => {
        const e = errorsOf(weights, codes, done.scales, grid);
        let loss = 0;
        for (let r = 0; r < rows; r++) {
          for (let i = 0; i < cols; i++) {
            const top = i - i % blockSize;
            for (let j = top; j < top + blockSize; j++) {
              loss += e[r * cols + i]! * e[r * cols + j]! * values[i * blockSize + j - top]!;
            }
          }
        }
        return loss;
      };
      assert(lossOf(done.codes) <= lossOf(done.nearest) * (1 + 1e-4));
    }),
    { numRuns: 80 },
  );
});

Deno.test("roundProjected() with no iterations, a zero matrix, or exact weights is rounding to nearest", () => {
  const { rows, cols, weight } = LAYER, grid = GRIDS["row"]!(rows, cols);
  const none = round(weight, grid, { options: { iterations: 0 } });
  assert.deepEqual(none.codes, none.nearest);
  assert.equal(none.result.stop, "iterations");
  const zero = round(new Float32Array(64 * 32), GRIDS["row"]!(64, 32));
  assert.deepEqual([zero.result.stop, zero.result.steps], ["exact", 0]);
  const exact = Float32Array.from({ length: 64 * 32 }, (_, at) => (at * 37 % 255 - 127) / 128);
  for (let r = 0; r < 64; r++) exact[r * 32] = 127 / 128;
  const done = round(exact, GRIDS["row"]!(64, 32));
  assert.deepEqual([done.result.stop, done.codes], ["exact", done.nearest]);
  const still = round(weight, grid, { options: { lr: 0, stopLr: 0, iterations: 40 } });
  assert.deepEqual(still.codes, still.nearest);
});

Deno.test("roundProjected() gives the same codes again, and others for another seed", () => {
  const { rows, cols, weight } = LAYER, grid = GRIDS["row"]!(rows, cols);
  const options = { minDirections: 32, iterations: 60 };
  const codesOf = (seed: number) => round(weight, grid, { options, seed }).codes;
  assert.deepEqual(codesOf(1), codesOf(1));
  assert.notDeepEqual(codesOf(1), codesOf(2));
});

Deno.test("every option changes the trajectory", () => {
  const { weight, rows, cols } = syntheticLayer({ rows: 64, cols: 160, seed: 2 });
  const grid = GRIDS["row"]!(rows, cols);
  const base = { minDirections: 24, topP: 0.3, iterations: 120, stopStall: 1000 };
  const plateau = { ...SCHEDULES.plateau, patience: 3, cooldown: 2 };
  type Options = Parameters<typeof round>[2] & object;
  const traceOf = (change: NonNullable<Options["options"]>, rest: Partial<Options> = {}) => {
    const { result } = round(weight, grid, { ...rest, options: { ...base, ...change } });
    return JSON.stringify([result.steps, result.stop, result.losses, result.rates]);
  };
  const pairs: readonly [string, string, string][] = [
    ["num_iter", traceOf({}), traceOf({ iterations: 9 })],
    ["lr", traceOf({}), traceOf({ lr: 0.02 })],
    ["top_p", traceOf({}), traceOf({ topP: 0.8 })],
    ["min_k", traceOf({}), traceOf({ minDirections: 40 })],
    ["max_k", traceOf({}), traceOf({ maxDirections: 10, minDirections: 4 })],
    ["full_matrix", traceOf({}), traceOf({ fullMatrix: true })],
    ["optimizer", traceOf({}), traceOf({}, { optimizer: "adamw" })],
    ["radam", traceOf({}, { optimizer: "adamw" }), traceOf({}, { optimizer: "radam" })],
    ["lr_schedule", traceOf({}), traceOf({ schedule: SCHEDULES.exponential })],
    [
      "lr_gamma",
      traceOf({ schedule: SCHEDULES.exponential }),
      traceOf({ schedule: { kind: "exponential", gamma: 0.9 } }),
    ],
    [
      "lr_adaptive_mode",
      traceOf({}),
      traceOf({ schedule: { kind: "adaptive", mode: "no-reset" } }),
    ],
    ...([
      ["lr_patience", { patience: 1 }],
      ["lr_factor", { factor: 0.5 }],
      ["lr_min", { min: 0.0079 }],
      ["lr_cooldown", { cooldown: 9 }],
      ["lr_threshold", { threshold: 0.2 }],
      ["lr-shape-influence", { shapeInfluence: 0 }],
    ] as const).map(([name, change]): [string, string, string] => [
      name,
      traceOf({ schedule: plateau }),
      traceOf({ schedule: { ...plateau, ...change } }),
    ]),
    [
      "lr-threshold-mode",
      traceOf({ schedule: { ...plateau, threshold: 0.05 } }),
      traceOf({ schedule: { ...plateau, threshold: 0.05, thresholdMode: "abs" } }),
    ],
    ["early-stop-loss", traceOf({}), traceOf({ stopLoss: 0.9 })],
    ["early-stop-lr", traceOf({}), traceOf({ stopLr: 0.0085 })],
    ["early-stop-stall", traceOf({}), traceOf({ stopStall: 3 })],
    ["weight-error-limit", traceOf({}), traceOf({ errorLimitDb: 0.05 })],
  ];
  for (const [name, one, other] of pairs) assert.notEqual(one, other, name);
});

Deno.test("roundProjected() leaves clipped codes at the end of the grid", () => {
  const { rows, cols, weight } = LAYER, grid = GRIDS["block"]!(rows, cols);
  for (const iterations of [0, 30]) {
    const { codes, nearest } = round(weight, grid, { options: { iterations, errorLimitDb: 0.01 } });
    const ends = [...nearest.keys()].filter((at) => Math.abs(nearest[at]!) === 127);
    assert(ends.length > 1);
    assert(codes.every((code) => code >= -127));
    if (iterations === 0) assert.deepEqual(codes, nearest);
  }
});
