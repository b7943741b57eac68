/** What a worker computes with besides its kernels: loaded for runs that need it. */

import type { Arena } from "../../backend/cpu/arena.ts";
import { WasmLinalg } from "../../backend/cpu/wasm_linalg.ts";
import { type LinalgContext, soloContext } from "../../linalg/context.ts";
import { GpuClient } from "./gpu_client.ts";
import { offloadedLinalg } from "./offloaded_linalg.ts";
import type { RunMessage } from "./protocol.ts";

/** Returns the way of a worker to the GPU; null: there is none. */
export function gpuOf({ gpu, module, linalgModule }: RunMessage): GpuClient | null {
  return gpu === null ? null : new GpuClient(gpu, { kernels: module, linalg: linalgModule });
}

/** Returns the linear algebra of a worker, which takes its workspace from `scratch`; null if no task needs it. */
export function linalgOf(
  { linalgModule, gpu }: RunMessage,
  { scratch, client }: { readonly scratch: Arena; readonly client: GpuClient | null },
): LinalgContext | null {
  if (linalgModule === null) return null;
  const onCpu = new WasmLinalg(linalgModule, scratch);
  const kernels = gpu === null || client === null
    ? onCpu
    : offloadedLinalg(onCpu, client, gpu.placement.linalg);
  return soloContext(kernels, scratch);
}
