/**
 * Threads of a job, which its engine asks the page for: the page starts them and carries the messages.
 *
 * A worker that starts a worker can wait for ever in Firefox (153 at least). Until the page's thread has
 * registered the new worker, the one that starts it waits on the same condition as the new one, which waits
 * for its first message; one notice wakes one of the two. A page waits for nobody when it starts a worker.
 */

/** Messages of an engine to the page. */
export type ThreadOrder =
  | {
    readonly kind: "startThread";
    readonly thread: number;
    readonly url: string;
    readonly isVital: boolean;
  }
  | { readonly kind: "toThread"; readonly thread: number; readonly message: unknown }
  | { readonly kind: "endThread"; readonly thread: number };

/** Messages of the page to an engine. */
export type ThreadReport =
  | { readonly kind: "fromThread"; readonly thread: number; readonly message: unknown }
  | { readonly kind: "threadFailed"; readonly thread: number; readonly message: string };

const scope = globalThis as unknown as {
  postMessage(message: ThreadOrder, transfer?: readonly Transferable[]): void;
};

const threads = new Map<number, AskedThread>();
let last = 0;

/** A thread that the page starts for this one; as a Worker, as far as the program uses it. */
export class AskedThread {
  onmessage: ((message: never) => void) | null = null;
  onfailure: ((error: Error) => void) | null = null;
  readonly #thread = ++last;

  /** @param isVital others may wait for an answer of this thread: if it fails, the page ends the job. */
  constructor(url: URL, { isVital = false }: { readonly isVital?: boolean } = {}) {
    threads.set(this.#thread, this);
    scope.postMessage({ kind: "startThread", thread: this.#thread, url: url.href, isVital });
  }

  postMessage(message: unknown, transfer: readonly Transferable[] = []): void {
    scope.postMessage({ kind: "toThread", thread: this.#thread, message }, transfer);
  }

  terminate(): void {
    threads.delete(this.#thread);
    scope.postMessage({ kind: "endThread", thread: this.#thread });
  }
}

/** Hands a message of the page to the thread that it is of, unless that was ended. */
export function hearThread(report: ThreadReport): void {
  const thread = threads.get(report.thread);
  if (report.kind === "fromThread") thread?.onmessage?.(report.message as never);
  else thread?.onfailure?.(new Error(report.message));
}
