import assert from "node:assert/strict";
import { adviceFor, speedup } from "../../../src/cli/doctor/advice.ts";
import type { Diagnosis } from "../../../src/cli/doctor/diagnose.ts";
import { MACHINE, REAL, SOFTWARE, WITH_GPU } from "./diagnoses.ts";

function flagsOf(diagnosis: Diagnosis): string[] {
  return adviceFor(diagnosis).map(({ flag }) => flag);
}

function whyOf(diagnosis: Diagnosis, flag: string): string {
  return adviceFor(diagnosis).find((advice) => advice.flag === flag)!.why;
}

const AUTO = "--device auto (default)";

Deno.test("adviceFor() says why auto uses the CPU", () => {
  assert.match(whyOf(MACHINE, AUTO), /the only adapter is a software one/);
  const none = { ...MACHINE, adapters: [] };
  assert.match(whyOf(none, AUTO), /there is no adapter: no GPU, or no driver/);
  const bun = { ...none, hasWebGpu: false, runtime: { name: "Bun", version: "1" } };
  assert.match(whyOf(bun, AUTO), /Bun, this runtime, has no WebGPU/);
  assert.match(whyOf({ ...WITH_GPU, auto: "cpu" }, AUTO), /device file of the GPU/);
});

Deno.test("adviceFor() names a software adapter as something to try, not to use", () => {
  assert.match(whyOf(MACHINE, "--device gpu"), /software.*slower/);
  assert(!flagsOf({ ...MACHINE, adapters: [] }).includes("--device gpu"));
  const failing = { ...SOFTWARE, failure: "too slow" };
  assert(!flagsOf({ ...MACHINE, adapters: [failing] }).includes("--device gpu"));
});

Deno.test("adviceFor() takes a GPU that computes right and fast", () => {
  assert.deepEqual(flagsOf(WITH_GPU), [AUTO, "--streaming-mode auto"]);
  assert.match(whyOf(WITH_GPU, AUTO), /Fast GPU/);
});

Deno.test("adviceFor() avoids a GPU that computes wrong, fails or is slow", () => {
  const wrong = { kernel: "rotate", passed: false, isExact: true, detail: "at 3: 1, should be 2" };
  for (
    const [changes, why] of [
      [{ checks: [...REAL.checks, wrong] }, /1 of the kernels on Fast GPU compute wrong/],
      [{ sameCodes: false }, /Fast GPU rounds wrong/],
      [{ failure: "Cannot open Fast GPU: no" }, /Cannot open Fast GPU/],
      [{ chunkMs: 4 }, /as fast on the CPU .*1\.0 times/],
    ] as const
  ) {
    const diagnosis = { ...WITH_GPU, adapters: [{ ...REAL, ...changes }, SOFTWARE] };
    assert.deepEqual(flagsOf(diagnosis), ["--device cpu"]);
    assert.match(whyOf(diagnosis, "--device cpu"), why);
  }
});

Deno.test("adviceFor() offers more workers if there are more cores than it takes", () => {
  assert(flagsOf({ ...MACHINE, cpu: { model: "", cores: 32 } }).includes("--workers 32"));
  assert(!flagsOf({ ...MACHINE, cpu: { model: "", cores: 8 } }).join().includes("--workers"));
});

Deno.test("adviceFor() bounds memory by how much is free", () => {
  const free = (freeBytes: number) =>
    flagsOf({ ...MACHINE, memory: { totalBytes: 16e9, freeBytes } }).slice(2);
  assert.deepEqual(free(100e6), ["--low-memory"]);
  assert.deepEqual(free(1e9), ["--memory-limit 800MB"]);
  assert.deepEqual(free(8e9), []);
  assert.deepEqual(flagsOf({ ...MACHINE, memory: null }).slice(2), []);
});

Deno.test("speedup() compares with as many cores as a conversion takes", () => {
  assert.equal(speedup(WITH_GPU), 8);
  assert.equal(speedup({ ...WITH_GPU, cpu: { model: "", cores: 64 } }), 2);
  assert.equal(speedup({ ...WITH_GPU, cpuChunkMs: null }), null);
});
