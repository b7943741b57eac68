import assert from "node:assert/strict";
import type { Compensation } from "../../../src/calibration/compensation.ts";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import { HEAP } from "../../../src/linalg/context.ts";
import type { Hessian } from "../../../src/linalg/hessian.ts";
import type { Scratch, TeamContext } from "../../../src/run/chunks/chunk_context.ts";
import { integerMoments, standsIntegers } from "../../../src/run/chunks/integer_moments.ts";
import { rotatedHessian } from "../../../src/run/chunks/load_hessian.ts";
import type { QuantizeTask } from "../../../src/run/tasks.ts";
import { values } from "../../kernels/values.ts";
import { referenceContext } from "../../linalg/contexts.ts";

const COLS = 128;
const memory = HEAP as unknown as Scratch;

interface Layer {
  readonly inputs: Float32Array;
  readonly group: number | null;
}

function layerOf(
  { inputs, group }: Layer,
  changes: Partial<Compensation> = {},
): { task: QuantizeTask; compensation: Compensation } {
  const compensation = {
    statistic: "activations",
    rows: inputs.length / COLS,
    cols: COLS,
    data: { kind: "inline", values: inputs, path: "calibration.safetensors" },
    directions: null,
    segments: null,
    damping: 0.1,
    turbo: true,
    ...changes,
  } as unknown as Compensation;
  const task = { source: { cols: COLS }, convrotGroupSize: group, compensation };
  return { task: task as unknown as QuantizeTask, compensation };
}

const team = {
  ...{ kernels: referenceKernels, linalg: referenceContext, gpu: null },
  ...{ scratch: memory, shared: memory },
} as unknown as TeamContext;

function inIntegers(layer: Layer): Hessian | null {
  const { task, compensation } = layerOf(layer);
  return integerMoments(team, task, compensation);
}

/** The same in f64: no damping bounds what less would change. */
function inDoubles(layer: Layer): Hessian {
  const { task, compensation } = layerOf(layer, { damping: 0 });
  return rotatedHessian(team, task, compensation);
}

/** Inputs of channels of very different sizes; `dead` are 0. */
function inputsOf(rows: number, dead: readonly number[] = []): Float32Array {
  return values(rows, rows * COLS, "plain").map((x, i) => {
    const channel = i % COLS;
    return dead.includes(channel) ? 0 : (x + channel % 3) * 10 ** (channel % 4 - 2);
  });
}

/** The largest difference of elements, relative to the root of the product of their energies. */
function distance(one: Hessian, other: Hessian): number {
  const { values: a } = one, { values: b } = other;
  let largest = 0;
  for (let i = 0; i < COLS; i++) {
    for (let j = 0; j < COLS; j++) {
      const unit = Math.sqrt(b[i * (COLS + 1)]! * b[j * (COLS + 1)]!);
      largest = Math.max(largest, Math.abs(a[i * COLS + j]! - b[i * COLS + j]!) / unit);
    }
  }
  return largest;
}

for (const group of [null, 4, 16, 64]) {
  // One row, a part of a run, whole runs, and more than are added up in f32.
  for (const rows of [1, 5, 128, 1030]) {
    Deno.test(`integerMoments() makes of ${rows} rows in groups of ${group} what is made in f64`, () => {
      const dead = group === null ? [] : [0, 3, 77],
        layer = { inputs: inputsOf(rows, dead), group };
      const got = inIntegers(layer)!, want = inDoubles(layer);
      const found = distance(got, want);
      assert(found < 4e-4 / Math.sqrt(rows), `off by ${found}`);
      assert.deepEqual({ ...got, values: 0 }, { ...want, values: 0 });
    });
  }
}

Deno.test("integerMoments() gives up if sums may be beyond f32, and if inputs are all zero", () => {
  assert.equal(inIntegers({ inputs: inputsOf(70).map((x) => x * 1e17), group: 16 }), null);
  assert.equal(inIntegers({ inputs: inputsOf(70).map((x) => x * 1e-12), group: 16 }), null);
  assert.equal(inIntegers({ inputs: new Float32Array(70 * COLS), group: 16 }), null);
});

Deno.test("integerMoments() names an input that is no number", () => {
  const inputs = inputsOf(80);
  inputs[70 * COLS + 9] = NaN;
  assert.throws(() => inIntegers({ inputs, group: 16 }), /activations\[70, 9\] is NaN/);
});

Deno.test("standsIntegers() leaves to f32 and f64 what must be exact, and what no integers feed back", () => {
  const stands = (changes: Partial<Compensation>, of: Partial<QuantizeTask> = {}) => {
    const { task, compensation } = layerOf({ inputs: inputsOf(1), group: 16 }, changes);
    return standsIntegers({ ...task, ...of }, compensation);
  };
  assert(stands({}));
  assert(!stands({ turbo: false }));
  assert(!stands({ damping: 0 }));
  assert(!stands({ statistic: "hessian" }));
  assert(!stands({}, { onGpu: {} as NonNullable<QuantizeTask["onGpu"]> }));
  assert(!stands({}, { source: { cols: 100 } as QuantizeTask["source"], convrotGroupSize: null }));
});
