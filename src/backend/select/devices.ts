/** The devices of this machine, and whether their results are right. For `quantsmith doctor`. */

import { DeviceError } from "../../core/errors.ts";
import { referenceLinalg } from "../reference/linalg/reference_linalg.ts";
import { referenceKernels } from "../reference/reference_kernels.ts";
import {
  type AdapterInfo,
  describeAdapter,
  findAdapters,
  hasLanguageFeature,
  hasWebGpu,
} from "../webgpu/adapter.ts";
import { Gpu } from "../webgpu/device.ts";
import { type KernelCheck, selfTest } from "../webgpu/self_test.ts";
import { type ChainTime, timeChainOnCpu, timeChainOnGpu } from "./default_chain.ts";

export type { AdapterInfo, KernelCheck };
export { hasWebGpu };

/** An adapter, and what came of trying it. */
export interface AdapterReport {
  readonly info: AdapterInfo;
  /** Products of packed int8 in one instruction of WGSL. */
  readonly hasPackedDot: boolean;
  /** Every kernel; empty if the device did not open. */
  readonly checks: readonly KernelCheck[];
  /** Time of a chunk of the default mode in milliseconds; null if the device failed before. */
  readonly chunkMs: number | null;
  /** Whether that chunk's codes are those of the CPU; null if there are none. */
  readonly sameCodes: boolean | null;
  /** Why the device could not be tried to the end; null if it could. */
  readonly failure: string | null;
}

/** The devices of this machine. */
export interface Devices {
  /** Time of a chunk of the default mode on one core, in milliseconds; null if WASM lacks something. */
  readonly cpuChunkMs: number | null;
  readonly hasWebGpu: boolean;
  /** The first is the one that is used. */
  readonly adapters: readonly AdapterReport[];
}

/** How an inspection is done. */
export interface InspectOptions {
  /** Whether the kernels of the CPU can run. */
  readonly hasWasm: boolean;
  /** Ends it: the reason is thrown. */
  readonly signal: AbortSignal;
  /** Called before an adapter is tried. */
  readonly onAdapter?: (info: AdapterInfo) => void;
}

/** Time limit of an adapter, in milliseconds: software behind GL may compile for minutes. */
const PATIENCE_MS = Object.freeze({ real: 60_000, software: 30_000 });

/** Tries everything. Takes a few seconds per adapter; a device that fails is reported, not thrown. */
export async function inspectDevices(options: InspectOptions): Promise<Devices> {
  const cpu = options.hasWasm ? timeChainOnCpu() : null;
  const adapters: AdapterReport[] = [];
  for (const adapter of await findAdapters()) {
    options.onAdapter?.(describeAdapter(adapter));
    adapters.push(await tryAdapter(adapter, cpu, options));
  }
  return { cpuChunkMs: cpu?.chunkMs ?? null, hasWebGpu: await hasWebGpu(), adapters };
}

async function tryAdapter(
  adapter: GPUAdapter,
  cpu: ChainTime | null,
  { signal }: InspectOptions,
): Promise<AdapterReport> {
  const info = describeAdapter(adapter);
  const hasPackedDot = hasLanguageFeature("packed_4x8_integer_dot_product");
  let checks: readonly KernelCheck[] = [];
  let chain: ChainTime | null = null;
  let failure: string | null = null;
  try {
    using gpu = await Gpu.open(adapter);
    const right = { kernels: referenceKernels, linalg: referenceLinalg };
    const patience = AbortSignal.any([signal, AbortSignal.timeout(patienceMs(info))]);
    checks = await unlessAborted(selfTest(gpu, right), patience);
    chain = await unlessAborted(timeChainOnGpu(gpu), patience);
  } catch (error) {
    failure = failureOf(error, info);
  }
  const sameCodes = chain === null || cpu === null
    ? null
    : chain.codes.every((code, i) => code === cpu.codes[i]);
  return { info, hasPackedDot, checks, chunkMs: chain?.chunkMs ?? null, sameCodes, failure };
}

function patienceMs({ isSoftware }: AdapterInfo): number {
  return isSoftware ? PATIENCE_MS.software : PATIENCE_MS.real;
}

/** Why the device could not be tried to the end. Throws what is no fault of the device. */
function failureOf(error: unknown, info: AdapterInfo): string {
  if (error instanceof DeviceError) return error.message;
  if (error instanceof Error && error.name === "TimeoutError") {
    return `Gave ${info.name} up after ${patienceMs(info) / 1000} s: it is too slow to be of use`;
  }
  throw error;
}

/** Returns what `work` gives; throws the reason of `signal` as soon as that is aborted. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let abort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
