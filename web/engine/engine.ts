/**
 * The thread that does in a browser what the main thread does in the program. One job, then it ends: a page
 * that cancels can end it at any time.
 */

import { Disk, doorOf } from "../files/disk.ts";
import { createBell, type DiskLink, doorBehind } from "../files/disk_channel.ts";
import type { DiskWorkerMessage, DiskWorkerReport } from "../files/disk_worker.ts";
import {
  diskLink,
  fileNumber,
  type FileReading,
  mount,
  readingLink,
  setDisk,
  setReading,
} from "../files/file_table.ts";
import type { StoreResult } from "../files/output_store.ts";
import { createReadAhead } from "../files/read_ahead.ts";
import type { ReaderMessage } from "../files/reader_worker.ts";
import { openStore } from "../files/store_place.ts";
import { AskedThread, hearThread, type ThreadReport } from "../threads/asked_thread.ts";
import { throwOnLostMessages } from "../threads/lost_messages.ts";
import { hasThreads, setInlineWorker } from "../node/worker_threads.ts";
import { look } from "./look.ts";
import type { ConvertJob, EngineMessage, EngineReport } from "./protocol.ts";
import { runJob } from "./run_job.ts";
import { ENGINE_URLS } from "./urls.ts";

const scope = globalThis as unknown as {
  onmessage: ((event: MessageEvent<EngineMessage>) => void) | null;
  postMessage(message: EngineReport): void;
};

const abort = new AbortController();

// Browsers hide the name from pages that are not isolated; memory of one thread still has it.
(globalThis as { SharedArrayBuffer?: unknown }).SharedArrayBuffer ??=
  new WebAssembly.Memory({ initial: 0, maximum: 0, shared: true }).buffer.constructor;

throwOnLostMessages();

scope.onmessage = ({ data }) => {
  if (data.kind === "abort") abort.abort();
  else if (data.kind === "fromThread" || data.kind === "threadFailed") hearThread(data);
  else {
    answer(data).then((report) => scope.postMessage(report), (error) => {
      const { name, message } = error instanceof Error ? error : new Error(String(error));
      scope.postMessage({ kind: "failed", name, message });
    });
  }
};

async function answer(
  message: Exclude<EngineMessage, { kind: "abort" } | ThreadReport>,
): Promise<EngineReport> {
  if (message.kind === "look") {
    mount(message.job.files, null);
    return { kind: "looked", look: look(message.job) };
  }
  return { kind: "converted", result: await convert(message.job) };
}

async function convert(job: ConvertJob): Promise<StoreResult> {
  const disk = hasThreads ? await startDisk(job) : await ownDisk(job);
  try {
    const summary = await runJob(job, {
      workerUrl: ENGINE_URLS.worker,
      signal: abort.signal,
      report: (event) => scope.postMessage({ kind: "event", event }),
    });
    const result = await disk.result();
    scope.postMessage({ kind: "event", event: { type: "done", summary } });
    return result;
  } catch (error) {
    await disk.discard();
    throw error;
  } finally {
    disk.close();
  }
}

/** The disk of a job, wherever it is. */
interface JobDisk {
  result(): Promise<StoreResult>;
  discard(): Promise<void>;
  close(): void;
}

/** Starts the thread that owns the disk. */
async function startDisk({ files, place, freeBytes }: ConvertJob): Promise<JobDisk> {
  const worker = new AskedThread(ENGINE_URLS.disk, { isVital: true });
  const ask = (message: DiskWorkerMessage): Promise<DiskWorkerReport> =>
    new Promise((resolve, reject) => {
      worker.onmessage = (report: DiskWorkerReport) =>
        report.kind === "failed" ? reject(new Error(report.message)) : resolve(report);
      worker.onfailure = reject;
      worker.postMessage(message);
    });
  const connect = (link: DiskLink) => {
    worker.postMessage({ kind: "connect", link } satisfies DiskWorkerMessage);
  };
  const connection = { bell: createBell(), output: IS_CHROMIUM ? place : null, connect };
  const [reader] = await Promise.all([
    IS_CHROMIUM ? startReader(files) : null,
    ask({ kind: "open", place, bell: connection.bell }),
  ]);
  mount(files, doorBehind(diskLink(connection)), reader === null ? null : readingLink(reader));
  setDisk({ connection, free: freeBytes });
  setReading(reader);
  return {
    result: async () => {
      const report = await ask({ kind: "result" });
      if (report.kind !== "result") {
        throw new TypeError("the thread of the disk said something else");
      }
      return report.result;
    },
    discard: async () => void await ask({ kind: "discard" }),
    close: () => {
      worker.terminate();
      reader?.close();
    },
  };
}

/**
 * Chromium and its like alone have this. Elsewhere slices are as fast as streams, and one thread alone may write a
 * file (Firefox), or neither was tested.
 */
const IS_CHROMIUM = "userAgentData" in navigator;

/** Starts the thread that reads files ahead. */
async function startReader(
  files: ConvertJob["files"],
): Promise<FileReading & { close(): void }> {
  const worker = new AskedThread(ENGINE_URLS.reader);
  const memory = createReadAhead();
  const blobs = new Map(files.map(({ blob }, i) => [fileNumber(i), blob]));
  await new Promise((resolve, reject) => {
    worker.onmessage = resolve;
    worker.onfailure = reject;
    worker.postMessage({ kind: "open", files: blobs, memory } satisfies ReaderMessage);
  });
  return {
    memory,
    connect: (port) =>
      worker.postMessage({ kind: "connect", port } satisfies ReaderMessage, [port]),
    close: () => worker.terminate(),
  };
}

/** Without shared memory one thread does everything, and the disk is its own. */
async function ownDisk({ files, place, freeBytes }: ConvertJob): Promise<JobDisk> {
  const disk = new Disk(await openStore(place));
  mount(files, doorOf(disk));
  setDisk({ connection: null, free: freeBytes });
  setInlineWorker(() => import("../../src/run/workers/worker.ts"));
  return { result: () => disk.result(), discard: () => disk.discard(), close: () => {} };
}
