/** Which GPU a conversion takes, if any. */

import { existsSync } from "node:fs";
import process from "node:process";
import { DeviceError } from "../../core/errors.ts";
import type { AdapterLimits } from "../gpu_placement.ts";
import type { GpuPlacement } from "../gpu_tasks.ts";
import type { GpuService } from "./gpu_service.ts";

/** The choices: `auto` takes a real GPU, `gpu` any adapter or none at all. */
export type DeviceChoice = "auto" | "cpu" | "gpu";

/** Hears why. */
export interface DeviceLog {
  /** Messages that a user should read. */
  warn(message: string): void;
  /** Details that explain a choice. */
  verbose(message: string): void;
}

/** Parameters of the choice of a device. */
export interface DeviceContext {
  /** URL of `src/run/workers/worker.ts`, built in the main module. */
  readonly workerUrl: URL;
  readonly log: DeviceLog;
  /** Limits of operations on the device; absent: all that fits and pays. */
  readonly placementOf?: ((adapter: AdapterLimits) => GpuPlacement) | undefined;
}

/** Shown by a real GPU on Linux: Intel and AMD, NVIDIA, and Windows behind WSL. */
const LINUX_GPU_FILES = ["/dev/dri", "/dev/nvidiactl", "/dev/dxg"];

/**
 * Returns the GPU that `choice` takes, opened; null: the CPU. `auto` never takes one that is software.
 *
 * @throws DeviceError if `gpu` finds none.
 */
export async function chooseGpu(
  choice: DeviceChoice,
  { workerUrl, log, placementOf }: DeviceContext,
): Promise<GpuService | null> {
  if (choice === "cpu") return null;
  if (choice === "auto" && hidesGpus()) {
    log.verbose("no GPU: CUDA_VISIBLE_DEVICES hides all; --device gpu takes one all the same");
    return null;
  }
  if (choice === "auto" && !mayHaveGpu()) {
    log.verbose("no GPU: there is no device file of one");
    return null;
  }
  let gpu: GpuService;
  try {
    const { GpuService } = await import("./gpu_service.ts");
    gpu = await GpuService.start(workerUrl, placementOf);
  } catch (error) {
    if (choice === "gpu" || !(error instanceof DeviceError)) throw error;
    log.verbose(`no GPU: ${error.message}`);
    return null;
  }
  const { name, isSoftware } = gpu.adapter;
  if (isSoftware && choice === "auto") {
    gpu.close();
    log.verbose(`no GPU: ${name} computes on the CPU, which --device cpu does faster`);
    return null;
  }
  if (isSoftware) log.warn(`${name} is no GPU but software: --device cpu is faster`);
  return gpu;
}

/** Whether the environment asks for the CPU the way that programs of CUDA are asked: no device is visible. */
function hidesGpus(): boolean {
  try {
    const devices = process.env["CUDA_VISIBLE_DEVICES"];
    return devices !== undefined && /^\s*(-1)?\s*$/.test(devices);
  } catch (error) {
    // Without the permission to read the environment, nothing is set.
    if (error instanceof Error && error.name === "NotCapable") return false;
    throw error;
  }
}

/** Whether it is worth to load a driver and ask, which takes up to 200 ms if there is no GPU. */
export function mayHaveGpu(): boolean {
  if (process.platform !== "linux") return true;
  try {
    return LINUX_GPU_FILES.some((path) => existsSync(path));
  } catch (error) {
    // Without all permissions Deno lets nobody look at devices: the driver has to be asked then.
    if (error instanceof Error && error.name === "NotCapable") return true;
    throw error;
  }
}
