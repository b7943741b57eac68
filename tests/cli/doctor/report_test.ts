import assert from "node:assert/strict";
import { diagnosisJson, diagnosisLines } from "../../../src/cli/doctor/report.ts";
import { MACHINE, REAL, SOFTWARE, WITH_GPU } from "./diagnoses.ts";

Deno.test("diagnosisLines() reports machine, adapters and flags", () => {
  assert.deepEqual(diagnosisLines(MACHINE, { columns: 80 }), [
    "quantsmith 0.2.0",
    "",
    "  runtime    Deno 2.9.6, linux x64",
    "  cpu        Some CPU, 2 cores",
    "  memory     16.0 GB, 8.00 GB free",
    "  wasm       SIMD; relaxed SIMD too",
    "  speed      262 MB/s of BF16 per core in the default mode",
    "",
    "Software adapter: llvmpipe (LLVM 15)",
    "  vendor     Mesa",
    "  features   timestamp-query, packed dot products; no shader-f16",
    "  limits     2.15 GB per buffer, 134 MB of it at once; workgroups of 1024 with",
    "             32 KiB; WebGPU does not report free memory",
    "  self-test  2 of 2 kernels pass: 1 with the same bits as plain code, 1 within",
    "             their tolerance; the codes of a chunk are those of the CPU",
    "  speed      21.0 MB/s of BF16 in the default mode, 0.04 times that of 2 cores",
    "",
    "Flags for this machine",
    "  --device auto (default)",
    "    uses the CPU: the only adapter is a software one",
    "  --device gpu",
    "    would take the software adapter: the same results, slower; for trying it out",
  ]);
});

Deno.test("diagnosisLines() keeps within the width, whatever it is", () => {
  for (const columns of [40, 60, 80, 200]) {
    const widest = Math.max(...diagnosisLines(WITH_GPU, { columns }).map((line) => line.length));
    assert(widest <= Math.min(columns, 100), `${widest} of ${columns}`);
  }
});

Deno.test("diagnosisLines() reports that a runtime has no WebGPU, and that there is no adapter", () => {
  const none = { ...MACHINE, adapters: [] };
  const text = (diagnosis: typeof MACHINE) => diagnosisLines(diagnosis, { columns: 80 }).join("\n");
  assert.match(text(none), /gpu +none: WebGPU finds no adapter/);
  const bun = { ...none, hasWebGpu: false, runtime: { name: "Bun", version: "1.4" } };
  assert.match(text(bun), /gpu +none: this runtime has no WebGPU \(Bun\)/);
});

Deno.test("diagnosisLines() names every kernel that fails, and why a device does", () => {
  const adapter = {
    ...REAL,
    checks: [...REAL.checks, {
      kernel: "rotate",
      passed: false,
      isExact: true,
      detail: "at 3: 1, should be 2",
    }],
    failure: "Cannot compute on Fast GPU: the device was lost",
    chunkMs: null,
    sameCodes: null,
  };
  const lines = diagnosisLines({ ...WITH_GPU, adapters: [adapter] }, { columns: 100 });
  assert(lines.some((line) => /self-test +2 of 3 kernels pass/.test(line)));
  assert(lines.some((line) => /^ +rotate fails: at 3: 1, should be 2$/.test(line)));
  assert(
    lines.some((line) => /failure +Cannot compute on Fast GPU: the device was lost/.test(line)),
  );
});

Deno.test("diagnosisLines() lets nothing through to a terminal that a driver slipped into its name", () => {
  const info = { ...SOFTWARE.info, name: "bad\u001b[31m" };
  const lines = diagnosisLines({ ...MACHINE, adapters: [{ ...SOFTWARE, info }] }, { columns: 80 });
  assert(lines.includes("Software adapter: bad?[31m"));
});

Deno.test("diagnosisLines() says what an engine without relaxed SIMD costs", () => {
  const wasm = { simd: true, sharedMemory: true, relaxedSimd: false };
  const lines = diagnosisLines({ ...MACHINE, wasm }, { columns: 80 });
  assert(lines.includes("  wasm       SIMD; relaxed SIMD not: only calibration data takes longer"));
});

Deno.test("diagnosisLines() says what is not known", () => {
  const wasm = { simd: false, sharedMemory: true, relaxedSimd: false };
  const lines = diagnosisLines({ ...MACHINE, memory: null, wasm, cpuChunkMs: null }, {
    columns: 100,
  });
  assert(
    lines.includes("  memory     not known: Deno reports it with --allow-sys=systemMemoryInfo"),
  );
  assert(lines.some((line) => /wasm +no SIMD: this engine cannot run/.test(line)));
});

Deno.test("diagnosisJson() holds the same, with the advice", () => {
  const json = JSON.parse(JSON.stringify(diagnosisJson(WITH_GPU)));
  assert.deepEqual(json.cpu, { model: "Some CPU", cores: 2 });
  assert.deepEqual(json.memory, { total_bytes: 16e9, free_bytes: 8e9 });
  assert.equal(json.auto, "gpu");
  assert.deepEqual(
    json.adapters.map((adapter: Record<string, unknown>) => [adapter["name"], adapter["software"]]),
    [["Fast GPU", false], ["llvmpipe (LLVM 15)", true]],
  );
  assert.deepEqual(json.adapters[0].features, {
    shader_f16: false,
    timestamp_query: true,
    packed_dot_products: true,
  });
  assert.equal(json.adapters[0].times_cpu, 8);
  assert.equal(json.adapters[0].self_test.length, 2);
  assert.equal(json.advice[0].flag, "--device auto (default)");
});

Deno.test("diagnosisLines() lists every kernel if that is asked for", () => {
  const lines = diagnosisLines(MACHINE, { columns: 80, everyKernel: true });
  assert(lines.includes("             decode             same bits"));
  assert(lines.includes("             errorStats         within 3e-8 of the reference"));
});
