/**
 * The entry point of a worker. One script serves all: binaries have but one. What a worker turns out to be
 * is loaded when it is told, so that the threads that fetch, or own the GPU, hold nothing of the others.
 */

import type { FetchMessage, FetchReport } from "../../remote/fetch_thread.ts";
import type { GpuMessage, GpuReport, GpuStartMessage } from "./gpu_protocol.ts";
import type { RunMessage, WorkerMessage } from "./protocol.ts";

/** The part of a worker's global scope that is used here. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<RunMessage | GpuMessage | FetchMessage>) => void) | null;
  postMessage(message: WorkerMessage | GpuReport | FetchReport): void;
}

const scope = globalThis as unknown as WorkerScope;
scope.onmessage = ({ data }) => {
  if (!("kind" in data)) takePart(data).catch(giveUp);
  else if (data.kind === "gpu") becomeGpuOwner(data).catch(giveUp);
  else if (data.kind === "fetch") fetchFiles(data).catch(giveUp);
};

/** Fails in a way that the main thread hears of, in every runtime. */
function giveUp(error: unknown): void {
  setTimeout(() => {
    throw error;
  });
}

/** Does this worker's part of a run. */
async function takePart(run: RunMessage): Promise<void> {
  const { runAll } = await import("./run_worker.ts");
  runAll(run, (message) => scope.postMessage(message));
}

/** From now on this worker fetches what others read from a server. */
async function fetchFiles(message: FetchMessage): Promise<void> {
  const { fetchThread } = await import("../../remote/fetch_thread.ts");
  await fetchThread(message, (report) => scope.postMessage(report));
}

/** From now on this worker does what others ask of the GPU. */
async function becomeGpuOwner(start: GpuStartMessage): Promise<void> {
  const { ownGpu } = await import("./gpu_owner.ts");
  const take = await ownGpu(start, (report) => scope.postMessage(report));
  scope.onmessage = ({ data }) => {
    if ("kind" in data && data.kind !== "gpu" && data.kind !== "fetch") take(data);
  };
}
