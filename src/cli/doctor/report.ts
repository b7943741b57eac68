/** The findings of `doctor` as lines for people and as JSON. Pure. */

import type { AdapterReport, KernelCheck } from "../../backend/select/devices.ts";
import { formatBytes, visible } from "../format.ts";
import { versionLine } from "../version.ts";
import { wrap } from "../wrap.ts";
import { adviceFor, speedup, workersOf } from "./advice.ts";
import type { Diagnosis } from "./diagnose.ts";

/** BF16 bytes of the chunk that is timed. */
const CHUNK_BYTES = 2 ** 21;

const TITLE_COLUMNS = 13, INDENT = 4, MAX_COLUMNS = 100, MIN_COLUMNS = 40;

/** Names of vendors by the number that drivers report: their number at PCI, or at Khronos. */
const VENDORS: Readonly<Record<string, string>> = {
  "4098": "AMD",
  "4318": "NVIDIA",
  "32902": "Intel",
  "4203": "Apple",
  "5045": "Arm",
  "5140": "Microsoft",
  "20803": "Qualcomm",
  "65541": "Mesa",
};

/** How a report is laid out. */
export interface ReportLayout {
  /** Lines are at most this wide if words allow it. */
  readonly columns: number;
  /** List every kernel, not only those that fail. */
  readonly everyKernel?: boolean;
}

/** Returns the lines of `doctor`. */
export function diagnosisLines(diagnosis: Diagnosis, layout: ReportLayout): string[] {
  const { columns, everyKernel = false } = layout;
  const width = Math.max(MIN_COLUMNS, Math.min(columns, MAX_COLUMNS));
  const facts = (rows: readonly (readonly [string, string])[]) =>
    rows.flatMap(([title, text]) => entry(title, text, width));
  const { adapters } = diagnosis;
  return [
    versionLine(),
    "",
    ...facts(machineRows(diagnosis)),
    ...(adapters.length === 0 ? facts([["gpu", noAdapter(diagnosis)]]) : []),
    ...adapters.flatMap((adapter, index) => [
      "",
      ...wrap(headline(adapter), width),
      ...facts(adapterRows(diagnosis, adapter, index)),
      ...(everyKernel ? adapter.checks.flatMap((check) => kernelLine(check, width)) : []),
    ]),
    "",
    "Flags for this machine",
    ...adviceFor(diagnosis).flatMap(({ flag, why }) => [
      `${" ".repeat(2)}${flag}`,
      ...wrap(visible(why), width - INDENT).map((line) => " ".repeat(INDENT) + line),
    ]),
  ];
}

function entry(title: string, text: string, width: number): string[] {
  const [first = "", ...more] = wrap(visible(text), width - TITLE_COLUMNS);
  return [
    `  ${title.padEnd(TITLE_COLUMNS - 2)}${first}`,
    ...more.map((line) => " ".repeat(TITLE_COLUMNS) + line),
  ];
}

function machineRows(diagnosis: Diagnosis): [string, string][] {
  const { runtime, system, cpu, memory, wasm, cpuChunkMs } = diagnosis;
  const cores = `${cpu.cores} ${cpu.cores === 1 ? "core" : "cores"}`;
  const missing = [
    ...(wasm.simd ? [] : ["SIMD"]),
    ...(wasm.sharedMemory ? [] : ["shared memory"]),
  ];
  return [
    ["runtime", `${runtime.name} ${runtime.version}, ${system}`],
    ["cpu", cpu.model === "" ? cores : `${cpu.model}, ${cores}`],
    [
      "memory",
      memory === null
        ? "not known: Deno reports it with --allow-sys=systemMemoryInfo"
        : `${formatBytes(memory.totalBytes)}, ${formatBytes(memory.freeBytes)} free`,
    ],
    [
      "wasm",
      missing.length > 0
        ? `no ${missing.join(", no ")}: this engine cannot run the kernels of the CPU`
        : `SIMD; relaxed SIMD ${
          wasm.relaxedSimd ? "too" : "not: only calibration data takes longer"
        }`,
    ],
    ...(cpuChunkMs === null
      ? []
      : [["speed", `${rate(cpuChunkMs)} of BF16 per core in the default mode`] as [
        string,
        string,
      ]]),
  ];
}

function noAdapter({ hasWebGpu, runtime }: Diagnosis): string {
  return hasWebGpu
    ? "none: WebGPU finds no adapter"
    : `none: this runtime has no WebGPU (${runtime.name})`;
}

function headline({ info }: AdapterReport): string {
  return visible(`${info.isSoftware ? "Software adapter" : "GPU"}: ${info.name}`);
}

/** The features that kernels use, and whether the adapter has them. */
function featuresOf({ info, hasPackedDot }: AdapterReport): Record<string, boolean> {
  return {
    shader_f16: info.features.includes("shader-f16"),
    timestamp_query: info.features.includes("timestamp-query"),
    packed_dot_products: hasPackedDot,
  };
}

function adapterRows(
  diagnosis: Diagnosis,
  adapter: AdapterReport,
  index: number,
): [string, string][] {
  const { info } = adapter;
  const features = Object.entries(featuresOf(adapter));
  const name = (key: string) =>
    key.replace("_", key === "packed_dot_products" ? " " : "-")
      .replaceAll("_", " ");
  const words = (has: boolean) =>
    features.filter((row) => row[1] === has).map(([key]) => name(key));
  const lacking = words(false);
  const { limits } = info;
  return [
    ["vendor", vendorOf(info.vendor)],
    [
      "features",
      [words(true).join(", "), ...(lacking.length > 0 ? [`no ${lacking.join(", no ")}`] : [])]
        .filter((text) => text !== "").join("; "),
    ],
    [
      "limits",
      `${formatBytes(limits.maxBufferSize)} per buffer, ` +
      `${formatBytes(limits.maxStorageBufferBindingSize)} of it at once; workgroups of ` +
      `${limits.maxComputeInvocationsPerWorkgroup} with ` +
      `${limits.maxComputeWorkgroupStorageSize / 1024} KiB; WebGPU does not report free memory`,
    ],
    ["self-test", selfTestText(adapter)],
    ...adapter.checks.filter(({ passed }) => !passed)
      .map(({ kernel, detail }): [string, string] => ["", `${kernel} fails: ${detail}`]),
    ...(adapter.failure === null ? [] : [["failure", adapter.failure] as [string, string]]),
    ...speedRows(diagnosis, adapter, index),
  ];
}

function kernelLine({ kernel, passed, detail }: KernelCheck, width: number): string[] {
  const text = `${kernel.padEnd(18)} ${passed ? "" : "FAILS: "}${detail}`;
  return [" ".repeat(TITLE_COLUMNS) + visible(text).slice(0, width - TITLE_COLUMNS)];
}

function vendorOf(vendor: string): string {
  return VENDORS[vendor] ?? (vendor === "" ? "not reported" : vendor);
}

function selfTestText({ checks, sameCodes }: AdapterReport): string {
  if (checks.length === 0) return "not run";
  const passed = checks.filter((check) => check.passed);
  // By what a kernel promises: one that may round otherwise is close also if all its bits are the same.
  const exact = passed.filter(({ isExact }) => isExact).length;
  const close = passed.length - exact;
  const rest = close === 0 ? "" : `, ${close} within their tolerance`;
  const codes = sameCodes === null
    ? ""
    : `; the codes of a chunk ${sameCodes ? "are those" : "DIFFER from those"} of the CPU`;
  return `${passed.length} of ${checks.length} kernels pass: ${exact} with the same bits as plain ` +
    `code${rest}${codes}`;
}

function speedRows(
  diagnosis: Diagnosis,
  { chunkMs }: AdapterReport,
  index: number,
): [string, string][] {
  if (chunkMs === null) return [];
  const ratio = speedup(diagnosis, index);
  const workers = workersOf(diagnosis.cpu.cores);
  const cpu = workers === 1 ? "the core" : `${workers} cores`;
  const against = ratio === null ? "" : `, ${significant(ratio)} times that of ${cpu}`;
  return [["speed", `${rate(chunkMs)} of BF16 in the default mode${against}`]];
}

function rate(chunkMs: number): string {
  return `${formatBytes(CHUNK_BYTES / (chunkMs / 1000))}/s`;
}

function significant(value: number): string {
  return String(Number(value.toPrecision(value < 1 ? 1 : 2)));
}

/** Returns what `doctor --json` prints; keys are stable, more may be added. */
export function diagnosisJson(diagnosis: Diagnosis): Readonly<Record<string, unknown>> {
  const { memory, wasm, adapters } = diagnosis;
  return {
    version: versionLine(),
    runtime: diagnosis.runtime,
    system: diagnosis.system,
    cpu: diagnosis.cpu,
    memory: memory === null
      ? null
      : { total_bytes: memory.totalBytes, free_bytes: memory.freeBytes },
    wasm: {
      simd: wasm.simd,
      shared_memory: wasm.sharedMemory,
      relaxed_simd: wasm.relaxedSimd,
      chunk_ms: diagnosis.cpuChunkMs,
    },
    webgpu: diagnosis.hasWebGpu,
    auto: diagnosis.auto,
    adapters: adapters.map((adapter, index) => ({
      name: adapter.info.name,
      vendor: vendorOf(adapter.info.vendor),
      software: adapter.info.isSoftware,
      features: featuresOf(adapter),
      all_features: adapter.info.features,
      limits: adapter.info.limits,
      self_test: adapter.checks,
      same_codes: adapter.sameCodes,
      failure: adapter.failure,
      chunk_ms: adapter.chunkMs,
      times_cpu: speedup(diagnosis, index),
    })),
    advice: adviceFor(diagnosis),
  };
}
