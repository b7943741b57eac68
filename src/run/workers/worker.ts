/**
 * The entry point of a worker. One script serves all: binaries have but one. The code of its role is loaded
 * when it is told, so that the threads that fetch, or own the GPU, hold nothing of the others.
 */

import { parentPort } from "node:worker_threads";
import { later } from "../../core/later.ts";
import { plainError } from "../../core/plain_error.ts";
import type { FetchMessage, FetchReport } from "../../remote/fetch_thread.ts";
import type { GpuMessage, GpuReport, GpuStartMessage } from "./gpu_protocol.ts";
import type { RunMessage, WorkerMessage } from "./protocol.ts";
import type { PrepareMessage } from "./run_thread.ts";

type Told = PrepareMessage | RunMessage | GpuMessage | FetchMessage;

const port = ownPort();
let take = begin;
port.listen((message) => take(message));

/** The way to the thread that started this one: it is a worker of the web on Deno, see `run_thread.ts`. */
function ownPort(): {
  listen(take: (message: Told) => void): void;
  postMessage(message: object): void;
} {
  const port = parentPort;
  if (port !== null) {
    return {
      listen: (take) => port.on("message", take),
      postMessage: (message) => port.postMessage(message),
    };
  }
  const scope = globalThis as unknown as {
    onmessage: (event: { readonly data: Told }) => void;
    readonly postMessage?: (message: object) => void;
    readonly WorkerGlobalScope?: unknown;
  };
  if (scope.WorkerGlobalScope === undefined) {
    throw new Error("Cannot run as a program: this is the script of workers");
  }
  return {
    listen: (take) => scope.onmessage = ({ data }) => take(data),
    postMessage: (message) => scope.postMessage!(message),
  };
}

/** Takes what a worker is told as long as it is nothing else. */
function begin(message: Told): void {
  if (!("kind" in message)) {
    takePart(message).catch((cause) => {
      report({ kind: "failed", task: -1, error: plainError(cause) });
      report({ kind: "finished" });
    });
  } else if (message.kind === "prepare") {
    // What fails here fails again when the run needs it, and is reported then.
    prepare(message).catch(() => {});
  } else if (message.kind === "gpu") {
    becomeGpuOwner(message).catch((cause) =>
      report({ kind: "unavailable", error: plainError(cause) })
    );
  } else if (message.kind === "fetch") {
    fetchFiles(message).catch((cause) => report({ kind: "failed", error: plainError(cause) }));
  }
}

function report(message: WorkerMessage | GpuReport | FetchReport): void {
  port.postMessage(message);
}

/** Loads what runs need. */
async function prepare({ loadsMoreKinds }: PrepareMessage): Promise<void> {
  const { loadMoreKinds } = await import(
    later("./run_worker.ts")
  ) as typeof import("./run_worker.ts");
  if (loadsMoreKinds) await loadMoreKinds();
}

/** Does this worker's part of a run. */
async function takePart(run: RunMessage): Promise<void> {
  const { runAll } = await import(later("./run_worker.ts")) as typeof import("./run_worker.ts");
  await runAll(run, report);
}

/** From now on this worker fetches what others read from a server. */
async function fetchFiles(message: FetchMessage): Promise<void> {
  const { fetchThread } = await import(
    later("../../remote/fetch_thread.ts")
  ) as typeof import("../../remote/fetch_thread.ts");
  await fetchThread(message, report);
}

/** From now on this worker does what others ask of the GPU. */
async function becomeGpuOwner(start: GpuStartMessage): Promise<void> {
  const { ownGpu } = await import(later("./gpu_owner.ts")) as typeof import("./gpu_owner.ts");
  const answer = await ownGpu(start, report);
  take = (message) => {
    if (!("kind" in message)) return;
    if (message.kind === "connect" || message.kind === "prove") answer(message);
  };
}
