/** Diagnoses of machines that there may be, for tests of what is made of them. */

import type { AdapterReport } from "../../../src/backend/select/devices.ts";
import type { Diagnosis } from "../../../src/cli/doctor/diagnose.ts";

/** A software adapter on which everything passes. */
export const SOFTWARE: AdapterReport = {
  info: {
    name: "llvmpipe (LLVM 15)",
    vendor: "65541",
    isSoftware: true,
    features: ["timestamp-query"],
    limits: {
      maxBufferSize: 2 ** 31 - 1,
      maxStorageBufferBindingSize: 2 ** 27,
      maxComputeWorkgroupStorageSize: 32768,
      maxComputeInvocationsPerWorkgroup: 1024,
      maxStorageBuffersPerShaderStage: 32,
    },
  },
  hasPackedDot: true,
  checks: [
    { kernel: "decode", passed: true, isExact: true, detail: "same bits" },
    { kernel: "errorStats", passed: true, isExact: false, detail: "within 3e-8 of the reference" },
  ],
  chunkMs: 100,
  sameCodes: true,
  failure: null,
};

/** A real one. */
export const REAL: AdapterReport = {
  ...SOFTWARE,
  info: { ...SOFTWARE.info, name: "Fast GPU", vendor: "4318", isSoftware: false },
  chunkMs: 0.5,
};

/** A machine with two cores and a software adapter. */
export const MACHINE: Diagnosis = {
  runtime: { name: "Deno", version: "2.9.6" },
  system: "linux x64",
  cpu: { model: "Some CPU", cores: 2 },
  memory: { totalBytes: 16e9, freeBytes: 8e9 },
  wasm: { simd: true, sharedMemory: true, relaxedSimd: true },
  cpuChunkMs: 8,
  hasWebGpu: true,
  adapters: [SOFTWARE],
  auto: "cpu",
};

/** The same with a real GPU. */
export const WITH_GPU: Diagnosis = { ...MACHINE, adapters: [REAL, SOFTWARE], auto: "gpu" };
