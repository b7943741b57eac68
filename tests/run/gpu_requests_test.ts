/** Requests to the GPU that the compiler refuses: `deno task check` fails if it does not. */

import assert from "node:assert/strict";
import type { OutputRows } from "../../src/backend/output_rows.ts";
import { matrix } from "../../src/linalg/matrix.ts";
import {
  type DescentCall,
  type GpuRequest,
  type LowRankRows,
  type OffloadedKernels,
  packArrays,
  type Packed,
  unpackArrays,
} from "../../src/run/gpu_requests.ts";

const buffer = new SharedArrayBuffer(256);
const f32 = new Float32Array(buffer, 0, 4), i8 = new Int8Array(buffer, 64, 4);
const f64 = new Float64Array(buffer, 128, 4);

Deno.test("requests of another shape than the device takes are errors of types", () => {
  const requests: readonly GpuRequest[] = [
    // @ts-expect-error: the errors of a step are f32
    { op: "descent", call: packArrays({ kind: "measure", errors: i8, gradient: f32 } as const) },
    // @ts-expect-error: a step needs a gradient
    { op: "descent", call: packArrays({ kind: "measure", errors: f32 } as const) },
    // @ts-expect-error: rows to be measured have more
    { op: "measure", rows: packArrays({ weights: f32, inputs: f32, cols: 2 }) },
    // @ts-expect-error: a product takes three matrices and a mode
    { op: "linalg", kernel: "gemmF32", args: packArrays([f32, f32]) },
    // @ts-expect-error: no such kernel goes to the device
    { op: "linalg", kernel: "gemmF64", args: [] },
  ];
  assert.equal(requests.length, 5);
});

Deno.test("requests of the shape that the device takes cross as plain data", () => {
  const call = { kind: "measure", errors: f32, gradient: f32 } satisfies DescentCall;
  const args: OffloadedKernels["hadamardRows"] = [matrix(f32, 2, 2)];
  const rows: OutputRows = {
    weights: f32,
    difference: f32,
    inputs: f32,
    cols: 2,
    stored: null,
    sums: f64,
  };
  const requests: readonly GpuRequest[] = [
    { op: "descent", call: packArrays<DescentCall>(call) },
    { op: "linalg", kernel: "hadamardRows", args: packArrays(args) },
    { op: "measure", rows: packArrays(rows) },
  ];
  const [descent, linalg, measure] = structuredClone(requests);
  assert.ok(descent?.op === "descent" && linalg?.op === "linalg" && measure?.op === "measure");
  assert.deepEqual(unpackArrays<DescentCall>(descent.call, buffer), call);
  assert.ok(linalg.kernel === "hadamardRows");
  assert.deepEqual(unpackArrays<typeof args>(linalg.args, buffer), args);
  assert.deepEqual(unpackArrays<OutputRows>(measure.rows, buffer), rows);
});

Deno.test("unpackArrays() gives no array of another type than was packed", () => {
  const change: LowRankRows = { firstRow: 0, rank: 2, b: f32, a: f32 };
  const packed = packArrays(change);
  // @ts-expect-error: the factors are f32
  const wrong: Packed<{ a: Int8Array; b: Int8Array; firstRow: number; rank: number }> = packed;
  assert.ok(unpackArrays<LowRankRows>(packed, buffer).a instanceof Float32Array);
  assert.equal(wrong.a.length, 4);
});
