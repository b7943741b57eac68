import assert from "node:assert/strict";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import type { Compensation } from "../../../src/calibration/compensation.ts";
import { HEAP } from "../../../src/linalg/context.ts";
import type { Scratch, TeamContext } from "../../../src/run/chunks/chunk_context.ts";
import type { FittedInputs } from "../../../src/run/chunks/fitted_inputs.ts";
import { besideTheirLike, lastOfTheirLike } from "../../../src/run/chunks/inputs_key.ts";
import { KeptInputs } from "../../../src/run/chunks/kept_inputs.ts";
import type { QuantizeTask } from "../../../src/run/tasks.ts";
import { referenceContext } from "../../linalg/contexts.ts";

const COLS = 256, ROWS = 300, BYTES = 4 * COLS * ROWS;
const HELD_OUT = { firstRow: 260, rowStep: 2, rows: 20 };
const shared = { ...HEAP, u8: (count: number) => new Uint8Array(count) } as unknown as Scratch;

const DATA = {
  kind: "file",
  file: 0,
  offsetBytes: 0,
  dtype: "F32",
  path: "data.safetensors",
} as const;

function layer(changes: Partial<Compensation> = {}, of: Partial<QuantizeTask> = {}): QuantizeTask {
  const compensation = {
    statistic: "activations",
    rows: 260,
    cols: COLS,
    data: DATA,
    sample: 7,
    directions: null,
    damping: 0.01,
    actOrder: true,
    weightedScales: true,
    heldOut: HELD_OUT,
    ...changes,
  } as unknown as Compensation;
  const source = { rows: 64, cols: COLS } as QuantizeTask["source"];
  return {
    kind: "quantize",
    name: "w",
    source,
    groupRows: 1,
    convrotGroupSize: 64,
    compensation,
    ...of,
  } as QuantizeTask;
}

/** Two sets of rows, one behind the other in a file, with `changes` in the second. */
function rowsWith(changes: readonly number[]): Uint8Array {
  const bytes = Uint8Array.from({ length: 2 * BYTES }, (_, i) => (i % BYTES) * 7 & 255);
  for (const at of changes) bytes[BYTES + at]! ^= 1;
  return bytes;
}

/** Whether the second layer finds what the first has left. */
function isFound(first: QuantizeTask, second: QuantizeTask, file = rowsWith([])): boolean {
  const kept = new KeptInputs(shared);
  const team = {
    linalg: referenceContext,
    kernels: referenceKernels,
    scratch: shared,
    shared,
    read: (_: number, view: Uint8Array, at: number) =>
      view.set(file.subarray(at, at + view.length)),
  } as unknown as TeamContext;
  let made = 0;
  const results = [first, second].map((task) => {
    kept.begin(task);
    return kept.take(team, {
      task,
      compensation: task.compensation!,
      make: () => ({ heldOut: null, number: ++made }) as unknown as FittedInputs,
    });
  });
  assert.equal(results[0] === results[1], made === 1);
  return made === 1;
}

const behind = { ...DATA, offsetBytes: BYTES };

Deno.test("KeptInputs finds what a layer with the same rows has left", () => {
  assert.ok(isFound(layer(), layer({ data: behind })));
  assert.ok(isFound(layer(), layer()), "the same place");
  const wide = { rows: 512, cols: COLS } as QuantizeTask["source"];
  assert.ok(isFound(layer(), layer({ data: behind }, { source: wide })), "more outputs");
});

Deno.test("KeptInputs compares every byte of the rows that are fitted to and held out", () => {
  const lastRow = 4 * COLS * (HELD_OUT.firstRow + HELD_OUT.rowStep * (HELD_OUT.rows - 1));
  for (const at of [0, 1, 65535, 65536, 4 * COLS * 259, lastRow, lastRow + 4 * COLS - 1]) {
    assert.ok(!isFound(layer(), layer({ data: behind }), rowsWith([at])), `byte ${at}`);
  }
  assert.ok(isFound(layer(), layer({ data: behind }), rowsWith([BYTES - 1])), "an unused row");
  const all = { rows: ROWS, heldOut: null };
  assert.ok(!isFound(layer(all), layer({ ...all, data: behind }), rowsWith([BYTES - 1])));
});

Deno.test("KeptInputs finds nothing for a layer that is fitted otherwise", () => {
  const others: Readonly<Record<string, QuantizeTask>> = {
    damping: layer({ damping: 0.02 }),
    order: layer({ actOrder: false }),
    holdout: layer({ heldOut: { ...HELD_OUT, rows: 19 } }),
    sample: layer({ sample: 8 }),
    "no sample": layer({ sample: null }),
    rotation: layer({}, { convrotGroupSize: 16 }),
    factors: layer({ data: { ...DATA, factors: new Float32Array(COLS).fill(1) } }),
  };
  for (const [what, other] of Object.entries(others)) assert.ok(!isFound(layer(), other), what);
  assert.ok(!isFound(layer({ sample: null }), layer({ sample: null })), "both without a sample");
  const blocks = layer({}, { groupRows: 64 });
  assert.ok(!isFound(blocks, blocks), "columns in an order that depends on weights");
});

Deno.test("KeptInputs compares the factors of smoothed inputs", () => {
  const smoothed = (last: number) =>
    layer({ data: { ...DATA, factors: new Float32Array(COLS).fill(2).fill(last, COLS - 1) } });
  assert.ok(isFound(smoothed(3), smoothed(3)));
  assert.ok(!isFound(smoothed(3), smoothed(4)));
});

Deno.test("besideTheirLike() puts layers of the same inputs side by side, each rank by itself", () => {
  const [a, b] = [layer({ sample: 1 }), layer({ sample: 2 })];
  const items = [a, b, a, b, a].map((task, index) => ({ task, rank: index < 4 ? 0 : 1, index }));
  const order = besideTheirLike(items);
  assert.deepEqual(order.map(({ index }) => index), [0, 2, 1, 3, 4]);
  assert.deepEqual(lastOfTheirLike(order.map(({ task }) => task), 1, 4), [1, 3]);
});
