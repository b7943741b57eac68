/**
 * The parts of `node:worker_threads` that the program uses, on workers of the web. The first
 * message of a worker holds the files of the thread that starts it. Without shared memory there are no threads: the "worker" is this
 * thread itself, and does its work when it gets the message.
 */

import {
  accessForThread,
  mountPassed,
  prepareRun,
  type StartMessage,
} from "../files/file_table.ts";
import { AskedThread } from "../threads/asked_thread.ts";
import { throwOnLostMessages } from "../threads/lost_messages.ts";

type Listener = (value: never) => void;
type Name = "message" | "error";

/** Listeners as `node:events` has them. */
class Listeners {
  readonly #byName = new Map<string, { listener: Listener; once: boolean }[]>();

  on(name: Name, listener: Listener): this {
    return this.#add(name, { listener, once: false });
  }

  once(name: Name, listener: Listener): this {
    return this.#add(name, { listener, once: true });
  }

  removeAllListeners(name: Name): this {
    this.#byName.delete(name);
    return this;
  }

  emit(name: Name, value: unknown): void {
    const all = this.#byName.get(name) ?? [];
    this.#byName.set(name, all.filter(({ once }) => !once));
    for (const { listener } of all) listener(value as never);
  }

  #add(name: Name, entry: { listener: Listener; once: boolean }): this {
    this.#byName.set(name, [...this.#byName.get(name) ?? [], entry]);
    return this;
  }
}

/** Whether threads can share memory: browsers ask for an isolated page. */
export const hasThreads =
  (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated === true;

let inlineWorker: Worker | null = null;
const inlinePort = new Listeners();
let inlineReady: Promise<unknown> | null = null;
let loadInline: (() => Promise<unknown>) | null = null;

/** Says how the script of workers is loaded into this thread, for browsers without shared memory. */
export function setInlineWorker(load: () => Promise<unknown>): void {
  loadInline = load;
}

/** As `worker_threads.Worker`, as far as the program uses it. */
export class Worker extends Listeners {
  readonly #worker: AskedThread | null;

  constructor(url: URL) {
    super();
    if (!hasThreads) {
      this.#worker = null;
      return;
    }
    this.#worker = new AskedThread(url);
    this.#worker.onmessage = (message) => this.emit("message", message);
    this.#worker.onfailure = (error) => this.emit("error", error);
    const { access, transfer } = accessForThread();
    this.#worker.postMessage({ start: access } satisfies StartMessage, transfer);
  }

  postMessage(message: unknown, transfer: readonly Transferable[] = []): void {
    if (this.#worker !== null) this.#worker.postMessage(message, transfer);
    else void this.#takeInline(message);
  }

  terminate(): void {
    this.#worker?.terminate();
  }

  unref(): void {}

  async #takeInline(message: unknown): Promise<void> {
    try {
      await (inlineReady ??= loadInline!());
      inlineWorker = this;
      inlinePort.emit("message", message);
    } catch (error) {
      this.emit("error", error);
    }
  }
}

const scope = globalThis as unknown as {
  postMessage(message: unknown): void;
  addEventListener(name: "message", listener: (event: MessageEvent) => void): void;
};

/** The port of this thread to the one that started it. */
class OwnPort extends Listeners {
  #waiting: unknown[] | null = [];
  /** Messages come one after the other, also behind one that takes time. */
  #taken: Promise<void> = Promise.resolve();

  constructor() {
    super();
    throwOnLostMessages();
    scope.addEventListener("message", ({ data }) => {
      if (data?.start !== undefined) mountPassed((data as StartMessage).start);
      else this.#taken = this.#taken.then(() => this.#take(data));
    });
  }

  async #take(data: unknown): Promise<void> {
    // The memory of a run comes with its first message.
    const { memory } = data as { readonly memory?: unknown };
    if (memory instanceof WebAssembly.Memory) await prepareRun(memory);
    if (this.#waiting === null) this.emit("message", data);
    else this.#waiting.push(data);
  }

  override on(name: Name, listener: Listener): this {
    super.on(name, listener);
    if (name === "message") {
      const waiting = this.#waiting ?? [];
      this.#waiting = null;
      for (const data of waiting) this.emit("message", data);
    }
    return this;
  }

  postMessage(message: unknown): void {
    scope.postMessage(message);
  }
}

class InlinePort {
  on(name: Name, listener: Listener): this {
    inlinePort.on(name, listener);
    return this;
  }

  postMessage(message: unknown): void {
    inlineWorker!.emit("message", message);
  }
}

export const parentPort: OwnPort | InlinePort = hasThreads ? new OwnPort() : new InlinePort();
export const isMainThread = false;
