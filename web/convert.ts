/**
 * Conversion in a browser as a function: `quantsmith/browser` of the npm package, and
 * `globalThis.quantsmith` on the page.
 */

import type { DeviceChoice } from "../src/run/workers/choose_gpu.ts";
import type { GivenOptions } from "../src/plan/resolve_options.ts";
import { OUTPUTS } from "../src/formats/outputs.ts";
import { modelAmong } from "./engine/model_among.ts";
import type {
  ConvertEvent,
  ConvertJob,
  EngineMessage,
  EngineReport,
  Job,
  Look,
} from "./engine/protocol.ts";
import type { GivenFile } from "./files/file_table.ts";
import { removeFile } from "./files/output_store.ts";
import type { StorePlace } from "./files/store_place.ts";
import { claimFolder, removeLeftFolders } from "./files/private_folders.ts";
import { NOT_STARTED, UNREADABLE } from "./threads/lost_messages.ts";
import { ThreadHost } from "./threads/thread_host.ts";

export type { ConvertEvent, Look, PlanFacts, Summary, Verdict } from "./engine/protocol.ts";

/** A model: a safetensors file, or shards with their index. */
export type ModelFiles = Blob | readonly Blob[];

/** Options of a conversion. */
export interface LookOptions extends
  Omit<
    GivenOptions,
    "merge" | "calibrationPath" | "calibrationLora" | "layerConfig" | "shardBytes"
  > {
  /** The format. Default: `int8`. */
  readonly format?: GivenOptions["output"] | undefined;
  /** LoRAs that are merged into the model before everything else. */
  readonly loras?: readonly Blob[] | undefined;
  /** Strength of the LoRAs. Default: 1. */
  readonly loraScale?: number | undefined;
  /** Calibration data: safetensors or JSON. */
  readonly calibration?: Blob | undefined;
}

/** Parameters of {@link convert} beside the model. */
export interface BrowserConvertOptions extends LookOptions {
  /**
   * A file that was picked with `showSaveFilePicker`, which is written directly. Absent: the browser's own
   * storage; the result is a Blob whose bytes lie there, until {@link release} or the end of the page.
   */
  readonly saveTo?: FileSystemFileHandle | undefined;
  /** Threads that compute. Default: one per core, at most 8; one without shared memory. */
  readonly workers?: number | undefined;
  /** `auto`: a real GPU, else the CPU; `gpu`: any adapter, an error without one. Default: `auto`. */
  readonly device?: DeviceChoice | undefined;
  /** Read the output again and judge it as ComfyUI's loader does. Default: true. */
  readonly verify?: boolean | undefined;
  /** Make the report. Default: true. */
  readonly report?: boolean | undefined;
  /** Aborts the conversion; nothing is left of the output. */
  readonly signal?: AbortSignal | undefined;
  /** Gets the events of the conversion. */
  readonly onEvent?: ((event: ConvertEvent) => void) | undefined;
}

/** Most threads that compute: with more, the disk limits. */
const MOST_WORKERS = 8;

/** A conversion failed. `name` is that of the program's error: `FormatError`, `UsageError`, ... */
export class ConvertError extends Error {
  /** @param name of the program's error. */
  constructor(override readonly name: string, message: string) {
    super(message);
  }
}

/**
 * Returns what is in `model`, and the plan for `options`. Reads headers and a few rows.
 *
 * @throws ConvertError if it is no safetensors file, or a broken one.
 */
export async function look(model: ModelFiles, options: LookOptions = {}): Promise<Look> {
  const engine = startEngine();
  try {
    return await new Promise<Look>((resolve, reject) => {
      engine.onmessage = ({ data }: MessageEvent<EngineReport>) => {
        if (data.kind === "looked") resolve(data.look);
        else if (data.kind === "failed") reject(new ConvertError(data.name, data.message));
      };
      engine.onerror = (event) => reject(threadError(event));
      send(engine, { kind: "look", job: jobOf(model, options) });
    });
  } finally {
    engine.terminate();
  }
}

/**
 * Converts `model` on this machine, with nothing sent anywhere.
 *
 * @returns the file that `saveTo` names, or a Blob of the output.
 * @throws ConvertError with the message of the program; DOMException `AbortError` if `signal` aborts.
 * Nothing is left of the output then.
 *
 * @example
 * ```js
 * const blob = await quantsmith.convert(file, {
 *   onEvent: (event) => console.log(event.type),
 * });
 * ```
 */
export async function convert(
  model: ModelFiles,
  options: BrowserConvertOptions = {},
): Promise<Blob | FileSystemFileHandle> {
  const { saveTo, workers, device, verify, report, signal, onEvent, ...rest } = options;
  signal?.throwIfAborted();
  const given = await orRemoved(saveTo, () => {
    refuseWrong(workers, device);
    return jobOf(model, rest);
  });
  await removeLeftFolders();
  const isShared = globalThis.crossOriginIsolated === true;
  // Direct writes need a thread that may wait, and cannot be read back, as a run with data does.
  const isDirect = saveTo !== undefined && isShared && rest.calibration === undefined;
  const folder = isDirect ? null : await claimFolder();
  const place: StorePlace = isDirect
    ? { kind: "picked", handle: saveTo }
    : folder === null
    ? { kind: "memory" }
    : { kind: "private", folder: folder.name };
  const most = Math.min(MOST_WORKERS, navigator.hardwareConcurrency ?? 1);
  const job: ConvertJob = {
    ...given,
    place,
    outputName: saveTo === undefined ? null : saveTo.name,
    freeBytes: isDirect ? Infinity : await freeBytes(),
    workers: isShared ? workers ?? most : 1,
    device: isShared ? device ?? "auto" : "cpu",
    verify: verify ?? true,
    report: report ?? true,
  };
  if (!isShared) onEvent?.({ type: "warning", message: SINGLE });
  try {
    const result = await run(job, { signal, onEvent });
    if (result.kind === "picked") return result.handle;
    if (folder !== null) stored.set(result.blob, folder);
    if (saveTo === undefined) return result.blob;
    await copyTo(saveTo, result.blob, signal);
    await release(result.blob);
    return saveTo;
  } catch (error) {
    await folder?.remove();
    await removeEmpty(saveTo);
    throw error;
  }
}

/** Returns what `action` does; if it fails, a file that was only just picked goes. */
async function orRemoved<T>(saveTo: FileSystemFileHandle | undefined, action: () => T): Promise<T> {
  try {
    return action();
  } catch (error) {
    await removeEmpty(saveTo);
    throw error;
  }
}

const DEVICES: readonly (DeviceChoice | undefined)[] = [undefined, "auto", "cpu", "gpu"];

/** @throws ConvertError for what types would not let through. */
function refuseWrong(workers: number | undefined, device: DeviceChoice | undefined): void {
  if (workers !== undefined && !(Number.isInteger(workers) && workers > 0)) {
    throw new ConvertError("UsageError", `Cannot use ${workers} for workers: 1 or more is needed`);
  }
  if (!DEVICES.includes(device)) {
    throw new ConvertError(
      "UsageError",
      `Cannot use ${JSON.stringify(device)} for device: one of auto, cpu, gpu is needed`,
    );
  }
}

/** Returns `blobs`. @throws ConvertError if one of them is none. */
function blobsOf(blobs: readonly Blob[], what: string): readonly Blob[] {
  if (Array.isArray(blobs) && blobs.every((each) => each instanceof Blob)) return blobs;
  throw new ConvertError("UsageError", `Cannot use ${what}: Files or Blobs are needed`);
}

const SINGLE =
  "this page is not isolated from others, so browsers give it no shared memory: one thread " +
  "does all the work, and no GPU";

const stored = new WeakMap<Blob, { remove(): Promise<void> }>();

/** Removes the bytes of a Blob that {@link convert} returned from the browser's storage. */
export async function release(blob: Blob): Promise<void> {
  await stored.get(blob)?.remove();
  stored.delete(blob);
}

function startEngine(): Worker {
  return new Worker(new URL("./engine.js", import.meta.url), { type: "module" });
}

function send(engine: Worker, message: EngineMessage): void {
  engine.postMessage(message);
}

function threadError(event: ErrorEvent): ConvertError {
  event.preventDefault();
  return new ConvertError("Error", event.message || NOT_STARTED);
}

/** Runs `job` in an engine of its own. */
async function run(
  job: ConvertJob,
  { signal, onEvent }: Pick<BrowserConvertOptions, "signal" | "onEvent">,
): Promise<Extract<EngineReport, { kind: "converted" }>["result"]> {
  const engine = startEngine();
  let fail = (_message: string): void => {};
  const threads = new ThreadHost({
    start: (url) => new Worker(url, { type: "module" }),
    report: (message, transfer) => engine.postMessage(message, [...transfer]),
    fail: (message) => fail(message),
  });
  const stop = () => {
    if (globalThis.crossOriginIsolated === true) send(engine, { kind: "abort" });
    else engine.terminate(); // it would not hear it while it works
  };
  try {
    return await new Promise((resolve, reject) => {
      fail = (message) => reject(new ConvertError("Error", message));
      signal?.addEventListener("abort", () => {
        stop();
        if (globalThis.crossOriginIsolated !== true) reject(signal.reason);
      }, { once: true });
      engine.onmessageerror = () => fail(UNREADABLE);
      engine.onmessage = ({ data, ports }: MessageEvent<EngineReport>) => {
        if (data.kind === "event") onEvent?.(data.event);
        else if (data.kind === "converted") resolve(data.result);
        else if (data.kind === "failed") {
          reject(signal?.aborted ? signal.reason : new ConvertError(data.name, data.message));
        } else if (data.kind !== "looked") threads.take(data, ports);
      };
      engine.onerror = (event) => reject(threadError(event));
      send(engine, { kind: "convert", job });
    });
  } finally {
    engine.terminate();
    threads.close();
  }
}

/** Upper limit of the free space that browsers report. */
const MOST_REPORTED_BYTES = 10e9;

/** Free bytes of the browser's storage, Infinity if it does not say. */
async function freeBytes(): Promise<number> {
  const { quota = Infinity, usage = 0 } = await navigator.storage?.estimate() ?? {};
  const free = quota - usage;
  return free < MOST_REPORTED_BYTES ? free : Infinity;
}

/** A browser makes an empty file when one is picked. */
async function removeEmpty(handle: FileSystemFileHandle | undefined): Promise<void> {
  try {
    if (handle !== undefined && (await handle.getFile()).size === 0) await removeFile(handle);
  } catch {
    return; // it is gone already
  }
}

async function copyTo(
  handle: FileSystemFileHandle,
  blob: Blob,
  signal: AbortSignal | undefined,
): Promise<void> {
  const stream = await handle.createWritable();
  await blob.stream().pipeTo(stream, signal === undefined ? {} : { signal });
}

/** Puts the files into the folders that the program sees: the model at the top, everything else in folders. */
function jobOf(model: ModelFiles, options: LookOptions): Job {
  const { format, loras = [], loraScale, calibration, ...rest } = options;
  if (format !== undefined && !OUTPUTS.includes(format)) {
    throw new ConvertError(
      "UsageError",
      `Cannot use ${JSON.stringify(format)} for format: one of ${OUTPUTS.join(", ")} is needed`,
    );
  }
  const models = blobsOf(model instanceof Blob ? [model] : model, "the model");
  const files = models.map((blob) => given("/", blob, "model.safetensors"));
  const merged = blobsOf(loras, "loras").map((blob, i) =>
    given(`/lora${i + 1}/`, blob, `lora${i + 1}.safetensors`)
  );
  const data = blobsOf(calibration === undefined ? [] : [calibration], "calibration").map((blob) =>
    given("/calibration/", blob, "calibration.safetensors")
  );
  return {
    files: [...files, ...merged, ...data],
    model: modelAmong(files.map(({ path }) => path)).slice(1),
    options: {
      ...rest,
      ...(format === undefined ? {} : { output: format }),
      ...(merged.length === 0 ? {} : {
        merge: { paths: merged.map(({ path }) => path.slice(1)), scale: loraScale },
      }),
      ...(data.length === 0 ? {} : { calibrationPath: data[0]!.path.slice(1) }),
    },
  };
}

function given(folder: string, blob: Blob, name: string): GivenFile {
  if (!(blob instanceof File)) return { path: folder + name, blob, timeMs: 0 };
  return { path: folder + blob.name, blob, timeMs: blob.lastModified };
}
