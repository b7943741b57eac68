/** Which flags suit a machine, and why. Pure. */

import type { AdapterReport } from "../../backend/select/devices.ts";
import { RUNTIME_BYTES, WORKER_BYTES } from "../../run/budget.ts";
import { formatBytes } from "../format.ts";
import type { Diagnosis } from "./diagnose.ts";

/** A flag, and why it suits. */
export interface Advice {
  /** As it is typed. */
  readonly flag: string;
  readonly why: string;
}

/** Workers without `--workers`, as the help says. */
const DEFAULT_WORKERS = 8;

/** Arena of a worker in the default mode at most, in bytes (docs/architecture.md). */
const ARENA_BYTES = 14e6;

/** Memory that methods with calibration data need besides: 8 K² bytes for K = 16384, in bytes. */
const LARGE_HESSIAN_BYTES = 8 * 16384 ** 2;

/** Below this share of the CPU's rate a GPU is not worth its trouble; measurements vary. */
const WORTH = 1.1;

/** Returns what suits, the most important first; at least what `--device auto` does. */
export function adviceFor(diagnosis: Diagnosis): Advice[] {
  return [...deviceAdvice(diagnosis), ...workerAdvice(diagnosis), ...memoryAdvice(diagnosis)];
}

function deviceAdvice(diagnosis: Diagnosis): Advice[] {
  const { adapters, auto } = diagnosis;
  const [first] = adapters;
  if (auto === "cpu") {
    const advice = [{ flag: "--device auto (default)", why: `uses the CPU: ${whyCpu(diagnosis)}` }];
    if (first === undefined || !first.info.isSoftware || faultOf(first) !== null) return advice;
    return [...advice, {
      flag: "--device gpu",
      why: "would take the software adapter: the same results, slower; for trying it out",
    }];
  }
  const { info } = first!;
  const fault = faultOf(first!);
  if (fault !== null) return [{ flag: "--device cpu", why: `${fault}; a newer driver may help` }];
  const speed = speedup(diagnosis);
  if (speed !== null && speed < WORTH) {
    return [{
      flag: "--device cpu",
      why: `the default mode is as fast on the CPU (${info.name}: ${speed.toFixed(1)} times)`,
    }];
  }
  return [
    { flag: "--device auto (default)", why: `uses ${info.name}` },
    {
      flag: "--streaming-mode auto",
      why: "lets as large operations run there as its limits allow " +
        `(${formatBytes(info.limits.maxStorageBufferBindingSize)} per buffer)`,
    },
  ];
}

/** Why an adapter should not be used; null if nothing speaks against it. */
function faultOf({ info, checks, failure, sameCodes }: AdapterReport): string | null {
  if (failure !== null) return failure;
  const wrong = checks.filter(({ passed }) => !passed).length;
  if (wrong > 0) return `${wrong} of the kernels on ${info.name} compute wrong`;
  return sameCodes === false ? `${info.name} rounds wrong` : null;
}

function whyCpu({ hasWebGpu, adapters, runtime }: Diagnosis): string {
  if (!hasWebGpu) return `${runtime.name}, this runtime, has no WebGPU`;
  const [first] = adapters;
  if (first === undefined) return "there is no adapter: no GPU, or no driver (Vulkan, Metal, DX12)";
  if (!first.info.isSoftware) return "the device file of the GPU is missing or may not be read";
  return adapters.length === 1
    ? "the only adapter is a software one"
    : "all adapters are software ones";
}

/**
 * Returns how many times the rate of all cores the GPU has in the default mode, if each core gave the rate
 * of one alone; null if one of them was not measured.
 */
export function speedup({ adapters, cpu, cpuChunkMs }: Diagnosis, index = 0): number | null {
  const chunkMs = adapters[index]?.chunkMs ?? null;
  if (chunkMs === null || cpuChunkMs === null) return null;
  return cpuChunkMs / workersOf(cpu.cores) / chunkMs;
}

/** Workers that a conversion takes by default. */
export function workersOf(cores: number): number {
  return Math.min(DEFAULT_WORKERS, cores);
}

function workerAdvice({ cpu }: Diagnosis): Advice[] {
  if (cpu.cores <= DEFAULT_WORKERS) return [];
  return [{
    flag: `--workers ${cpu.cores}`,
    why: `${DEFAULT_WORKERS} are the default, as the disk limits round to nearest; methods with ` +
      "calibration data and learned rounding use every core",
  }];
}

function memoryAdvice({ memory, cpu }: Diagnosis): Advice[] {
  if (memory === null) return [];
  const { freeBytes } = memory;
  const needed = RUNTIME_BYTES + workersOf(cpu.cores) * (WORKER_BYTES + ARENA_BYTES);
  if (freeBytes < needed) {
    return [{
      flag: "--low-memory",
      why: `only ${formatBytes(freeBytes)} are free, and the default may take ` +
        formatBytes(needed),
    }];
  }
  if (freeBytes < needed + LARGE_HESSIAN_BYTES) {
    const limit = Math.floor(freeBytes * 0.8 / 1e6);
    return [{
      flag: `--memory-limit ${limit}MB`,
      why: "with calibration data or learned rounding: layers that would need more are refused " +
        "before the work, not by the system in the middle of it",
    }];
  }
  return [];
}
