import assert from "node:assert/strict";
import type { ThreadReport } from "../../../web/threads/asked_thread.ts";
import { ThreadHost } from "../../../web/threads/thread_host.ts";

/** A thread that does nothing by itself. */
class SilentThread {
  onmessage: ((event: MessageEvent) => void) | null = null;
  onmessageerror: ((event: MessageEvent) => void) | null = null;
  onerror: ((event: ErrorEvent) => void) | null = null;
  readonly got: unknown[] = [];
  isEnded = false;
  constructor(readonly url: string) {}
  postMessage(message: unknown): void {
    this.got.push(message);
  }
  terminate(): void {
    this.isEnded = true;
  }
}

function prepare() {
  const started: SilentThread[] = [], reports: ThreadReport[] = [], failures: string[] = [];
  const host = new ThreadHost({
    start: (url) => {
      const thread = new SilentThread(url);
      started.push(thread);
      return thread as unknown as Worker;
    },
    report: (message) => reports.push(message),
    fail: (message) => failures.push(message),
  });
  return { host, started, reports, failures };
}

const START = { kind: "startThread", thread: 4, url: "worker.js", isVital: false } as const;

Deno.test("ThreadHost carries messages both ways between an engine and its threads", () => {
  const { host, started, reports } = prepare();
  host.take(START, []);
  host.take({ ...START, thread: 5, url: "disk.js" }, []);
  host.take({ kind: "toThread", thread: 5, message: "ask" }, []);
  started[1]!.onmessage!(new MessageEvent("message", { data: "said" }));
  assert.deepEqual(started.map(({ url, got }) => [url, got]), [
    ["worker.js", []],
    ["disk.js", ["ask"]],
  ]);
  assert.deepEqual(reports, [{ kind: "fromThread", thread: 5, message: "said" }]);
});

Deno.test("ThreadHost ends the threads it is told to end, and all when it is closed", () => {
  const { host, started } = prepare();
  for (const thread of [1, 2, 3]) host.take({ ...START, thread }, []);
  host.take({ kind: "endThread", thread: 2 }, []);
  host.take({ kind: "toThread", thread: 2, message: "late" }, []);
  assert.deepEqual(started.map(({ isEnded, got }) => [isEnded, got.length]), [
    [false, 0],
    [true, 0],
    [false, 0],
  ]);
  host.close();
  assert.ok(started.every(({ isEnded }) => isEnded));
});

Deno.test("ThreadHost reports a thread that fails or loses a message, and gives up if others wait for it", () => {
  const { host, started, reports, failures } = prepare();
  host.take(START, []);
  host.take({ ...START, thread: 5, isVital: true }, []);
  started[0]!.onerror!(new ErrorEvent("error", { message: "broke" }));
  started[0]!.onmessageerror!(new MessageEvent("messageerror"));
  assert.deepEqual(failures, []);
  started[1]!.onerror!(new ErrorEvent("error"));
  assert.deepEqual(reports.map((report) => "message" in report && report.message), [
    "broke",
    "the browser could not hand a message from one thread to another",
    "the browser could not start a thread",
  ]);
  assert.deepEqual(failures, ["the browser could not start a thread"]);
});
