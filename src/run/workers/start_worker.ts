/** Starts the threads of this program. */

import process from "node:process";
import { Worker } from "node:worker_threads";

/**
 * Most megabytes of young objects in a thread. Data is in shared memory, and what objects there are die
 * young; but V8 lets them grow to 64 MB per thread before it looks. With 1 instead of 4 a thread takes 3 MB
 * less, and no more time. A `node:worker_threads` Worker can be told so, a web Worker cannot.
 */
const YOUNG_MB = 1;

/**
 * Starts a thread that runs a script. If it fails, or runs out of memory, the Worker has an "error".
 *
 * @param url URL of a script that takes messages from `parentPort`; built in the main module.
 */
export function startWorker(url: URL): Worker {
  return new Worker(entryOf(url), {
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
    // Node hands its own on otherwise, and refuses to start a worker with some of them (--input-type).
    execArgv: [],
  });
}

/** Deno's Worker of `node:worker_threads` takes no script of a server, but one that imports it. */
function entryOf(url: URL): URL {
  const isOnServer = url.protocol === "http:" || url.protocol === "https:";
  if (!isOnServer || process.versions["deno"] === undefined) return url;
  return new URL(
    `data:text/javascript,${encodeURIComponent(`import ${JSON.stringify(url.href)};`)}`,
  );
}

/**
 * Returns the error for the "error" event of a thread.
 *
 * @param what the first half of its message: `Cannot run a worker`.
 */
export function threadError(what: string, cause: unknown): Error {
  return new Error(`${what}: ${reasonOf(cause)}`, { cause });
}

function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const { code } = cause as NodeJS.ErrnoException;
  return code === "ERR_WORKER_OUT_OF_MEMORY"
    ? "it ran out of memory; fewer workers (`--workers`) need less"
    : cause.message;
}

/** Sends a message to a thread, and gives it `ports`. */
export function send(worker: Worker, message: object, ports: readonly MessagePort[]): void {
  // The types know ports of `node:worker_threads` alone; the Worker takes those of the web as well.
  worker.postMessage(message, ports as unknown as Parameters<Worker["postMessage"]>[1]);
}
