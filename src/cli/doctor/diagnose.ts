/** The devices of this machine, as plain data. */

import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import process from "node:process";
import {
  type AdapterReport,
  inspectDevices,
  type InspectOptions,
} from "../../backend/select/devices.ts";
import { type WasmFeatures, wasmFeatures } from "../../backend/select/wasm_features.ts";
import { mayHaveGpu } from "../device.ts";

/** Memory in bytes. */
export interface MemoryFacts {
  readonly totalBytes: number;
  /** Memory that programs can get without swapping. */
  readonly freeBytes: number;
}

/** The findings of `doctor`. */
export interface Diagnosis {
  readonly runtime: { readonly name: string; readonly version: string };
  /** `linux x64`. */
  readonly system: string;
  /** `model` is empty if the system does not report it. */
  readonly cpu: { readonly model: string; readonly cores: number };
  /** Null if the runtime may not ask. */
  readonly memory: MemoryFacts | null;
  readonly wasm: WasmFeatures;
  /** Milliseconds of one core for a chunk of the default mode; null if WASM lacks something. */
  readonly cpuChunkMs: number | null;
  readonly hasWebGpu: boolean;
  /** The first is the one that is used. */
  readonly adapters: readonly AdapterReport[];
  /** The device that `--device auto` takes. */
  readonly auto: "cpu" | "gpu";
}

/** Finds out. Takes a few seconds per GPU. */
export async function diagnose(
  options: Pick<InspectOptions, "signal" | "onAdapter">,
): Promise<Diagnosis> {
  const wasm = wasmFeatures();
  const devices = await inspectDevices({ ...options, hasWasm: wasm.simd && wasm.sharedMemory });
  const isReal = devices.adapters[0]?.info.isSoftware === false;
  return {
    runtime: runtime(),
    system: `${process.platform} ${process.arch}`,
    cpu: { model: cpus()[0]?.model.trim() ?? "", cores: availableParallelism() },
    memory: memory(),
    wasm,
    ...devices,
    auto: isReal && mayHaveGpu() ? "gpu" : "cpu",
  };
}

function runtime(): Diagnosis["runtime"] {
  const { versions } = process;
  for (const [key, name] of [["deno", "Deno"], ["bun", "Bun"]] as const) {
    const version = versions[key];
    if (version !== undefined) return { name, version };
  }
  return { name: "Node", version: versions.node };
}

function memory(): MemoryFacts | null {
  try {
    const totalBytes = totalmem();
    // The limit of a container. Without a limit, some systems report a huge number.
    const limit = process.constrainedMemory?.() ?? 0;
    const most = limit > 0 && limit < totalBytes ? limit : totalBytes;
    return { totalBytes: most, freeBytes: Math.min(most, freemem()) };
  } catch (error) {
    // Deno reports memory only with the permission.
    if (error instanceof Error && error.name === "NotCapable") return null;
    throw error;
  }
}
