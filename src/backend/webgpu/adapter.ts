/** Which adapter there is, and whether it is a real one. */

import process from "node:process";
import { tmpdir } from "node:os";
import { ownWebGpu, provideWebGpu } from "./provide_webgpu.ts";

/** Facts of an adapter. */
export interface AdapterInfo {
  /** For example `NVIDIA H200` or `llvmpipe (LLVM 15.0.6, 256 bits)`. */
  readonly name: string;
  readonly vendor: string;
  /** Whether it computes on the CPU, which the kernels of the CPU backend do better. */
  readonly isSoftware: boolean;
  readonly features: readonly string[];
  /** Those that decide what fits, by their WebGPU names. */
  readonly limits: Readonly<Record<AdapterLimit, number>>;
}

/** Limits that are asked for at their most, and shown by `doctor`. */
export const ADAPTER_LIMITS = Object.freeze(
  [
    "maxBufferSize",
    "maxStorageBufferBindingSize",
    "maxComputeWorkgroupStorageSize",
    "maxComputeInvocationsPerWorkgroup",
    "maxStorageBuffersPerShaderStage",
  ] as const,
);

export type AdapterLimit = (typeof ADAPTER_LIMITS)[number];

/** Names of adapters that run on the CPU, if a driver does not say so itself. */
const SOFTWARE = /llvmpipe|lavapipe|swiftshader|softpipe|basic render/i;

/**
 * Returns the adapter of this machine, the fastest one if there are several; null if there is none,
 * or the runtime has no WebGPU.
 */
export async function findAdapter(): Promise<GPUAdapter | null> {
  return await request({ powerPreference: "high-performance" });
}

/**
 * Returns every adapter that can be asked for, {@link findAdapter}'s first: WebGPU has no list of them, but
 * may give another one for little power, or for software. None if the runtime has no WebGPU.
 */
export async function findAdapters(): Promise<readonly GPUAdapter[]> {
  const found = new Map<string, GPUAdapter>();
  const wishes: readonly GPURequestAdapterOptions[] = [
    { powerPreference: "high-performance" },
    { powerPreference: "low-power" },
    { forceFallbackAdapter: true },
  ];
  for (const wish of wishes) {
    const adapter = await request(wish);
    if (adapter === null) continue;
    const { vendor, device, description } = adapter.info;
    const name = JSON.stringify([vendor, device, description]);
    if (!found.has(name)) found.set(name, adapter);
  }
  return [...found.values()];
}

/** Whether there is WebGPU here at all, with an adapter or without. */
export async function hasWebGpu(): Promise<boolean> {
  return await provideWebGpu() !== null;
}

async function request(wish: GPURequestAdapterOptions): Promise<GPUAdapter | null> {
  // Without it, drivers of Mesa complain on stderr; where it points does not matter for computing.
  process.env["XDG_RUNTIME_DIR"] ??= tmpdir();
  const gpu = await provideWebGpu();
  if (gpu === null) return null;
  return await gpu.requestAdapter(wish);
}

/** Whether WGSL has the optional `feature` here; false too if there is no WebGPU. */
export function hasLanguageFeature(feature: string): boolean {
  return ownWebGpu()?.wgslLanguageFeatures.has(feature) ?? false;
}

/** Description of `adapter`. */
export function describeAdapter(adapter: GPUAdapter): AdapterInfo {
  const { info, limits, features } = adapter;
  const name = info.description || info.device || info.architecture || "unnamed adapter";
  return {
    name,
    vendor: info.vendor,
    isSoftware: info.isFallbackAdapter === true || SOFTWARE.test(name),
    features: [...features].sort(),
    limits: Object.fromEntries(
      ADAPTER_LIMITS.map((limit) => [limit, limits[limit]]),
    ) as Record<AdapterLimit, number>,
  };
}
