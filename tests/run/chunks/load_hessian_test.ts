import assert from "node:assert/strict";
import { referenceKernels } from "../../../src/backend/reference/reference_kernels.ts";
import { HEAP } from "../../../src/linalg/context.ts";
import type { Scratch, TeamContext } from "../../../src/run/chunks/chunk_context.ts";
import { hessianOf } from "../../../src/run/chunks/load_hessian.ts";
import type { GpuAccess, MomentsRequest } from "../../../src/run/gpu_requests.ts";
import type { Compensation } from "../../../src/calibration/compensation.ts";
import { assertSameBits } from "../../kernels/subject.ts";
import { values } from "../../kernels/values.ts";
import { referenceContext } from "../../linalg/contexts.ts";

const SIZE = 12, ROWS = 1030; // more than are read at a time

const compensation = {
  statistic: "activations",
  rows: ROWS,
  data: {
    kind: "inline",
    values: values(1, SIZE * ROWS, "plain"),
    path: "calibration.safetensors",
  },
  directions: null,
  segments: null,
} as unknown as Compensation;

function teamWith(gpu: GpuAccess | null): TeamContext {
  const memory = HEAP as unknown as Scratch;
  const context = { kernels: referenceKernels, linalg: referenceContext, gpu };
  return { ...context, scratch: memory, shared: memory } as unknown as TeamContext;
}

/** The Hessian, made with a GPU that answers as `run` does; null: none. */
function made(
  run: ((request: MomentsRequest, into: Float64Array) => boolean) | null,
): Float64Array {
  const into = new Float64Array(SIZE * SIZE).fill(7);
  const gpu = run === null ? null : {
    run: (request: unknown) => run(request as MomentsRequest, into),
  };
  const place = { size: SIZE, group: null, values: into, onGpu: run !== null };
  return hessianOf(teamWith(gpu as GpuAccess | null), compensation, place).values;
}

Deno.test("hessianOf() has moments summed up by the GPU in parts, and takes what it gives", () => {
  const asked: string[] = [];
  const got = made((request, into) => {
    asked.push(request.step === "add" ? `add ${request.inputs.length / SIZE}` : request.step);
    if (request.step === "end") {
      for (let i = 0; i < SIZE; i++) into[i * (SIZE + 1)]! += 3 * ROWS;
    }
    return true;
  });
  assert.deepEqual(asked, ["begin", "add 1024", "add 6", "end"]);
  assert.deepEqual([...got], Array.from(got, (_, k) => k % (SIZE + 1) === 0 ? 3 : 0));
});

for (const step of ["begin", "add", "end"]) {
  Deno.test(`hessianOf() starts again on the CPU if the GPU fails at "${step}"`, () => {
    const got = made((request, into) => {
      if (request.step === "end") into.fill(0.5); // part of the sum is there already
      return request.step !== step;
    });
    assertSameBits(got, made(null), step);
  });
}

Deno.test("hessianOf() starts again on the CPU if sums are beyond f32", () => {
  const got = made((request, into) => {
    if (request.step === "end") into[SIZE + 1] = Infinity;
    return true;
  });
  assertSameBits(got, made(null), "overflow");
});
