/**
 * Threads that take part in runs. On Deno they are workers of the web: those of `node:worker_threads` take three
 * times as long to start there, and the thread that starts them stands still meanwhile. Elsewhere they are of
 * `node:worker_threads`.
 */

import process from "node:process";
import type { Worker as NodeWorker } from "node:worker_threads";
import type { WorkerMessage } from "./protocol.ts";
import { send, startWorker } from "./start_worker.ts";

/** A thread that runs `worker.ts`. */
export interface RunThread {
  /**
   * Names the listeners from now on, instead of those before.
   *
   * @param onMessage takes what the thread reports.
   * @param onError takes the reason why the thread failed, also if it failed before.
   */
  listen(onMessage: (message: WorkerMessage) => void, onError: (error: Error) => void): void;
  /** Sends a message, and gives the thread `ports`. */
  send(message: object, ports?: readonly MessagePort[]): void;
  terminate(): void;
}

/** What a thread is sent that will take part in runs: it loads their code while the run is planned. */
export interface PrepareMessage {
  readonly kind: "prepare";
  /** Whether they will probably need `run/more_kinds.ts`, too. */
  readonly loadsMoreKinds: boolean;
}

/**
 * Starts a thread, which loads the code of runs.
 *
 * @param url URL of `src/run/workers/worker.ts`, built in the main module.
 */
export function startRunThread(url: URL, { loadsMoreKinds = false } = {}): RunThread {
  const isDeno = process.versions["deno"] !== undefined;
  const thread = isDeno ? new WebThread(url) : new NodeThread(url);
  thread.send({ kind: "prepare", loadsMoreKinds } satisfies PrepareMessage);
  return thread;
}

class NodeThread implements RunThread {
  readonly #worker: NodeWorker;

  constructor(url: URL) {
    this.#worker = startWorker(url);
  }

  listen(onMessage: (message: WorkerMessage) => void, onError: (error: Error) => void): void {
    this.#worker.removeAllListeners("message").removeAllListeners("error");
    this.#worker.on("message", onMessage);
    this.#worker.on("error", onError);
  }

  send(message: object, ports: readonly MessagePort[] = []): void {
    send(this.#worker, message, ports);
  }

  terminate(): void {
    this.#worker.terminate();
  }
}

class WebThread implements RunThread {
  readonly #worker: Worker;
  #onError: ((error: Error) => void) | null = null;
  /** Why it failed before anybody listened. */
  #failure: Error | null = null;

  constructor(url: URL) {
    this.#worker = new Worker(url, { type: "module" });
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(new Error(event.message.replace(/^Uncaught (\(in promise\) )?/, "")));
    };
  }

  listen(onMessage: (message: WorkerMessage) => void, onError: (error: Error) => void): void {
    this.#worker.onmessage = ({ data }) => onMessage(data);
    this.#onError = onError;
    if (this.#failure !== null) onError(this.#failure);
  }

  send(message: object, ports: readonly MessagePort[] = []): void {
    this.#worker.postMessage(message, [...ports]);
  }

  terminate(): void {
    this.#worker.terminate();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#onError?.(error);
  }
}

/**
 * Threads that are started before the run is planned, as every run needs at least one: they are ready when the plan
 * is. Dispose it: `using`.
 */
export class EarlyWorkers implements Disposable {
  readonly #threads: RunThread[];

  /**
   * @param url URL of `src/run/workers/worker.ts`, built in the main module.
   * @param what how many, by default one, and what they load while the run is planned.
   */
  constructor(
    url: URL,
    { count = 1, loadsMoreKinds = false }: {
      readonly count?: number;
      readonly loadsMoreKinds?: boolean;
    } = {},
  ) {
    this.#threads = Array.from({ length: count }, () => startRunThread(url, { loadsMoreKinds }));
  }

  /** Hands up to `most` threads over that nobody has taken. */
  take(most: number): RunThread[] {
    return this.#threads.splice(0, most);
  }

  /** Ends the threads that nobody took. */
  [Symbol.dispose](): void {
    for (const thread of this.take(Infinity)) thread.terminate();
  }
}
