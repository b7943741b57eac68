/** The threads of one engine, started by its page; see `asked_thread.ts`. */

import type { ThreadOrder, ThreadReport } from "./asked_thread.ts";
import { NOT_STARTED, UNREADABLE } from "./lost_messages.ts";

/** A thread of the page. */
type PageThread = Pick<
  Worker,
  "onmessage" | "onmessageerror" | "onerror" | "postMessage" | "terminate"
>;

/** Surroundings of a {@link ThreadHost}. */
export interface HostContext {
  /** Starts a thread. */
  readonly start: (url: string) => PageThread;
  /** Sends to the engine. */
  readonly report: (message: ThreadReport, transfer: readonly Transferable[]) => void;
  /** A thread has failed that others may wait for: nobody can be expected to answer any more. */
  readonly fail: (message: string) => void;
}

/** Starts, connects and ends the threads that an engine asks for. */
export class ThreadHost {
  readonly #context: HostContext;
  readonly #threads = new Map<number, PageThread>();

  constructor(context: HostContext) {
    this.#context = context;
  }

  /** Carries out an order. `ports`: those that came with it. */
  take(order: ThreadOrder, ports: readonly MessagePort[]): void {
    if (order.kind === "startThread") this.#start(order);
    else if (order.kind === "toThread") {
      this.#threads.get(order.thread)?.postMessage(order.message, [...ports]);
    } else {
      this.#threads.get(order.thread)?.terminate();
      this.#threads.delete(order.thread);
    }
  }

  /** Ends all threads. */
  close(): void {
    for (const thread of this.#threads.values()) thread.terminate();
    this.#threads.clear();
  }

  #start({ thread, url, isVital }: Extract<ThreadOrder, { kind: "startThread" }>): void {
    const { start, report, fail } = this.#context;
    const failed = (message: string) => {
      report({ kind: "threadFailed", thread, message }, []);
      if (isVital) fail(message);
    };
    const worker = start(url);
    worker.onmessage = ({ data, ports }) =>
      report({ kind: "fromThread", thread, message: data }, [...ports]);
    worker.onmessageerror = () => failed(UNREADABLE);
    worker.onerror = (event) => {
      event.preventDefault();
      failed(event.message || NOT_STARTED);
    };
    this.#threads.set(thread, worker);
  }
}
